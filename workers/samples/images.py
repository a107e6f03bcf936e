"""Images as a model's own image processor makes inputs of them: files of a folder, one a sample, captions beside them.

Shape legend: N samples, T tokens.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from space.errors import CalibrationError, ModelError, in_one_line
from workers.bounded_files import user_path
from workers.model_inputs import ModelInputs
from workers.samples.sample_records import SampleRecords
from workers.text.tokenizer import load_tokenizer

CAPTIONS = "metadata.jsonl"
"""lines with `file_name` and `text`, as the ImageFolder of Hugging Face's datasets has them"""
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read_image_folder(source: str, _: Path) -> SampleRecords:
    """Return the images of a folder, by name.

    Raises:
        CalibrationError: it is no folder, or holds none.

    """
    folder = _folder(source)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)
    if not files:
        raise CalibrationError(f"{source}: holds no image ({', '.join(_ENDINGS)}). Give a folder of images.")
    return SampleRecords(f"images: {source}, {len(files)} files", tuple((str(path),) for path in files))


def read_captioned_folder(source: str, _: Path) -> SampleRecords:
    """Return the images that the captions of a folder name, each with its text, in their order there.

    Raises:
        CalibrationError: it is no folder, has no captions, or one of them is not whole.

    """
    folder = _folder(source)
    path = folder / CAPTIONS
    told = 'lines such as {"file_name": "cat.jpg", "text": "a cat on a sofa"}'
    if not path.is_file():
        raise CalibrationError(
            f"{source}: has no {CAPTIONS}. A model of images and texts is judged on both: put {told} into it."
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read as text in UTF-8 ({in_one_line(error)}).") from error
    records = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            records.append(_captioned(folder, line, f"{path}, line {number}", told))
    return SampleRecords(f"images with captions: {source}, {len(records)} files", tuple(records))


def _captioned(folder: Path, line: str, where: str, told: str) -> tuple[str, str]:
    try:
        value = json.loads(line)
        name, text = value["file_name"], value["text"]
    except (ValueError, LookupError, TypeError):
        name = text = None
    if not isinstance(name, str) or not isinstance(text, str):
        raise CalibrationError(f"{where}: names no image and text. Write {told}.")
    image = (folder / name).resolve()
    if not image.is_relative_to(folder.resolve()) or not image.is_file():
        raise CalibrationError(f"{where}: the folder has no image {name!a}. Put it there, or take the line away.")
    return str(image), text


def _folder(source: str) -> Path:
    folder = user_path(source)
    if not folder.is_dir():
        raise CalibrationError(f"{source}: no folder. A model of images is judged on a folder of PNG or JPEG files.")
    return folder


def make_images(folder: Path, records: Sequence[tuple[Any, ...]], _: int, __: object = None) -> ModelInputs:
    """Return images as the model's image processor gives them.

    Raises:
        CalibrationError: one cannot be read.
        ModelError: the processor is missing, or makes images of several sizes.

    """
    return ModelInputs(_processed(folder, [read_image(Path(record[0])) for record in records]))


def make_captioned(folder: Path, records: Sequence[tuple[Any, ...]], _: int, __: object = None) -> ModelInputs:
    """Return images and their texts, padded to all the positions of the tower of texts, as such models are trained.

    Raises:
        CalibrationError: an image cannot be read.
        ModelError: the image processor or the tokenizer is missing or broken.

    """
    tokenizer = load_tokenizer(folder)
    try:
        encoded = tokenizer.encode([record[1] for record in records], None, _positions(folder), is_padded=True)
    except Exception as error:  # tokenizers raise whatever they like
        raise ModelError(f"{folder}: its tokenizer cannot encode a batch of texts: {in_one_line(error)}.") from error
    texts = {name: tensor for name, tensor in encoded.items() if isinstance(tensor, Tensor)}
    return ModelInputs({**make_images(folder, records, 0).tensors, **texts})


def _positions(folder: Path) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return int(config.text_config.max_position_embeddings)


def read_image(path: Path) -> Any:
    """Return an image in RGB, turned as its camera was held.

    Raises:
        CalibrationError: it cannot be read.

    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # the library raises many kinds, all of them about the file
        raise CalibrationError(f"{path}: cannot be read as an image ({in_one_line(error)}).") from error


def _processed(folder: Path, images: Sequence[Any]) -> dict[str, Tensor]:
    try:
        found = _processor(folder)(images=list(images), return_tensors="pt")
    except ModelError:
        raise
    except Exception as error:  # the library raises many kinds
        raise ModelError(
            f"{folder}: its image processor cannot make one batch of these images: {in_one_line(error)}. "
            "See that preprocessor_config.json gives all images one size."
        ) from error
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def _processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    with loading_from(folder, "image processor", "preprocessor_config.json into the folder"):
        return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


@contextmanager
def loading_from(folder: Path, what: str, missing: str) -> Iterator[None]:
    """Tell what a library raises while it loads a part of a model as an error of the model.

    Args:
        folder: the model.
        what: is loaded.
        missing: what the user should put there, to go on "Put the model's own" with.

    """
    try:
        yield
    except ImportError as error:
        told = f"its {what} is written for torchvision, not installed here: pip install torchvision."
        raise ModelError(f"{folder}: {told}") from error
    except Exception as error:  # the library raises many kinds, all of them about the folder's files
        told = f"its {what} cannot be loaded: {in_one_line(error)}. Put the model's own {missing}."
        raise ModelError(f"{folder}: {told}") from error

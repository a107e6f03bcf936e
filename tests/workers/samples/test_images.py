"""Images as a model's own processor makes inputs of them, with and without captions, and what is refused."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image

from space.errors import CalibrationError, ModelError
from tests.families.sample_sources import source_of
from tests.families.zoo import make_family
from workers.samples.images import read_image
from workers.samples.sample_table import check_samples, make_samples, read_samples
from workers.text.tokens import TextRequest


def _asked(source: Path) -> TextRequest:
    return TextRequest(str(source), 24, 4, 4, 4, 0)


def test_a_folder_of_images_becomes_three_splits(tmp_path: Path) -> None:
    """PNG and JPEG of any size are what the model's processor makes of them; the same files give the same tensors."""
    model, source = make_family("vit", tmp_path / "model"), source_of("images", tmp_path)
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        records = read_samples("images", model, _asked(source))
        assert len(records.records) == 24
        found.append(make_samples("images", model, _asked(source), records, tmp_path / name))
    assert found[0].digests == found[1].digests
    assert len(set(found[0].digests)) == 3
    pixels = found[0].load("search").tensors["pixel_values"]
    assert pixels.shape == (4, 3, 32, 32)
    assert float(pixels.abs().max()) <= 1


def test_captions_go_with_their_images(tmp_path: Path) -> None:
    """Each text is as long as the tower of texts has positions; a caption without its image is named."""
    model, source = make_family("clip", tmp_path / "model"), source_of("captioned-images", tmp_path)
    made = make_samples(
        "captioned-images", model, _asked(source), read_samples("captioned-images", model, _asked(source)), tmp_path
    )
    inputs = made.load("held_out").tensors
    assert inputs["pixel_values"].shape[0] == inputs["input_ids"].shape[0] == 4
    assert inputs["input_ids"].shape[1] == 64
    captions = source / "metadata.jsonl"
    captions.write_text(json.dumps({"file_name": "../model/config.json", "text": "no image"}))
    with pytest.raises(CalibrationError, match=r"line 1: the folder has no image '\.\./model"):
        read_samples("captioned-images", model, _asked(source))
    captions.write_text('{"file_name": "00.png"}')
    with pytest.raises(CalibrationError, match="line 1: names no image and text"):
        read_samples("captioned-images", model, _asked(source))
    captions.write_bytes(b"\xff\xfe")
    with pytest.raises(CalibrationError, match="cannot be read as text in UTF-8"):
        read_samples("captioned-images", model, _asked(source))
    captions.unlink()
    with pytest.raises(CalibrationError, match=r"has no metadata\.jsonl"):
        read_samples("captioned-images", model, _asked(source))


def test_what_cannot_be_read_is_refused_early(tmp_path: Path) -> None:
    """No source, no folder, no images, a broken file, no processor: each with what to do."""
    model, source = make_family("vit", tmp_path / "model"), source_of("images", tmp_path)
    with pytest.raises(CalibrationError, match="give --calibration a folder of images"):
        check_samples("images", model, TextRequest(None, 24, 4, 4, 4, 0))
    with pytest.raises(CalibrationError, match="no folder"):
        check_samples("images", model, _asked(source / "00.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match="holds no image"):
        check_samples("images", model, _asked(tmp_path / "empty"))
    (tmp_path / "empty" / "a.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(CalibrationError, match=r"a\.png: cannot be read as an image"):
        read_image(tmp_path / "empty" / "a.png")
    processor = model / "preprocessor_config.json"
    if find_spec("torchvision") is None:
        processor.write_text('{"image_processor_type": "DINOv3ViTImageProcessorFast"}')
        with pytest.raises(ModelError, match="pip install torchvision"):
            check_samples("images", model, _asked(source))
    processor.unlink()
    with pytest.raises(ModelError, match=r"Put the model's own preprocessor_config\.json"):
        check_samples("images", model, _asked(source))


def test_images_are_turned_as_their_camera_was_held(tmp_path: Path) -> None:
    """What EXIF says of the orientation is followed, and every image is in RGB."""
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter of a turn
    Image.fromarray(torch.zeros((8, 16), dtype=torch.uint8).numpy()).save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg")
    assert (image.size, image.mode) == ((8, 16), "RGB")

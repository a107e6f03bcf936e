"""The container copies bytes, the folder is whole or absent, and formats refuse what they cannot hold."""

import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from space.errors import OutputError, SpecError, VerificationError
from space.inventory import TensorInfo
from space.level import Level
from tests.export.exports import source_of
from tests.workers.tiny_models import Bench, TinyKind
from tightfit.export.checkpoint import check_format, new_folder, write_checkpoint
from tightfit.export.container import Entry, stored_entry, write_container
from workers.models.headers import read_header


def test_bytes_are_copied_exactly(tmp_path: Path) -> None:
    """Tensors of every type keep each bit, NaN and all, and safetensors' own loader reads them."""
    numbers = torch.arange(-60, 60)
    types = (torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8, torch.int32, torch.int64)
    tensors = {str(dtype).removeprefix("torch."): numbers.to(dtype).view(8, 15) for dtype in types}
    tensors |= {"bool": numbers > 3, "uint8": numbers.abs().to(torch.uint8), "empty": torch.zeros(0, 4)}
    tensors["nan"] = torch.tensor([float("nan"), -0.0, float("inf")])
    save_file(tensors, tmp_path / "from.safetensors")
    entries = [stored_entry(f"new.{t.info.name}", t) for t in read_header(tmp_path / "from.safetensors")]
    entries.append(Entry(TensorInfo("given", (2,), "I64"), struct.pack("<2q", -1, 2**40)))
    size = write_container(tmp_path / "to.safetensors", entries)
    found = load_file(tmp_path / "to.safetensors")
    assert found.pop("given").tolist() == [-1, 2**40]
    for name, tensor in tensors.items():
        copied = found.pop(f"new.{name}")
        assert copied.dtype == tensor.dtype
        assert copied.shape == tensor.shape
        assert copied.numpy(force=True).tobytes() == tensor.numpy(force=True).tobytes() if name != "bfloat16" else True
        assert copied.float().nan_to_num(7.5).equal(tensor.float().nan_to_num(7.5))
    assert found == {}
    assert size == sum(t.nbytes for t in tensors.values()) + 16
    assert sum(t.info.size_bytes for t in read_header(tmp_path / "to.safetensors")) == size


def test_source_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    """A copy is never silently short."""
    save_file({"x": torch.ones(64)}, tmp_path / "from.safetensors")
    (tensor,) = read_header(tmp_path / "from.safetensors")
    with (tmp_path / "from.safetensors").open("r+b") as file:
        file.truncate(tensor.start + 8)
    with pytest.raises(OSError, match="ended before x was whole"):
        write_container(tmp_path / "to.safetensors", [stored_entry("x", tensor)])


def test_all_that_belongs_to_a_model_is_copied(bench: Callable[[TinyKind], Bench], tmp_path: Path) -> None:
    """Tokenizers in every spelling and chat templates, in their folder too; a folder named like one is passed over."""
    at = bench("untied")
    model, out = shutil.copytree(at.folder, tmp_path / "model"), tmp_path / "out"
    names = ["chat_template.jinja", "additional_chat_templates/tool_use.jinja", "sentencepiece.bpe.model"]
    names += ["spiece.model", "qwen.tiktoken", "tekken.json", "tokenizer.model", "vocab.txt", "merges.txt"]
    for folder in (out, model / "additional_chat_templates", model / "tokenizer-old"):
        folder.mkdir()
    for name in [*names, "notes.txt", "modeling_x.py", "tokenizer-old/x"]:
        (model / name).write_text(name)
    source = replace(source_of(at, at.dense_plan()), model_folder=model)
    write_checkpoint(out, source, "packed")
    assert {name: (out / name).read_text() for name in names} == {name: name for name in names}
    assert not {"notes.txt", "modeling_x.py", "tokenizer-old"} & {p.name for p in out.iterdir()}


def test_new_folder_is_put_in_place(tmp_path: Path) -> None:
    """A missing or empty folder becomes the finished one; nothing else is left beside it."""
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b"):
        with new_folder(out) as temporary:
            assert temporary != out
            (temporary / "x").write_text("x")
        assert [p.name for p in out.iterdir()] == ["x"]
        assert [p.name for p in out.parent.iterdir() if p.name.startswith(".")] == []


def test_full_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    """What is already there is never mixed with or replaced; a file is no folder."""
    (tmp_path / "mine").write_text("mine")
    for out in (tmp_path, tmp_path / "mine"):
        with pytest.raises(OutputError, match="already there and not empty"), new_folder(out):
            pytest.fail("entered")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("mine", "mine")]


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A path through a file is an error of ours."""
    (tmp_path / "file").touch()
    told = r"file/out: cannot be made, since .*/file is a file"
    with pytest.raises(OutputError, match=told), new_folder(tmp_path / "file" / "out"):
        pytest.fail("entered")


def test_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    """What the system says amid the work is no traceback, and nothing is left of it; another file is named."""
    out = tmp_path / "out"
    told = f"{out}: cannot be written \\(No space left on device\\). Free some disk space, or give another folder"
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=told), new_folder(out):
        full.write_text("x")
    with pytest.raises(OutputError, match=r"\(No such file or directory: /no/source\)"), new_folder(out) as temporary:
        shutil.copyfile("/no/source", temporary / "x")
    assert list(tmp_path.iterdir()) == [full]


def _fail(out: Path, error: BaseException, content: str = "") -> None:
    """Write something and raise an error amid the work; `{}` in its text is the folder."""
    with new_folder(out) as temporary:
        (temporary / "x").write_text(content)
        raise type(error)(str(error).format(temporary))


@pytest.mark.parametrize("error", [RuntimeError("inside"), KeyboardInterrupt("inside")])
def test_failure_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Neither the folder nor a part of it is there after an error or Ctrl-C."""
    with pytest.raises(type(error), match="inside"):
        _fail(tmp_path / "out", error)
    assert list(tmp_path.iterdir()) == []


def test_failed_check_keeps_the_files_under_another_name(tmp_path: Path) -> None:
    """What failed its check is kept, marked as such, never as the export; a second one beside the first."""
    for name in ("out.unverified", "out.unverified-2"):
        with pytest.raises(VerificationError, match=f"out: wrong. The files are kept in .*/{name} for a look"):
            _fail(tmp_path / "out", VerificationError("{}: wrong"), name)
        assert (tmp_path / name / "x").read_text() == name
        assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.unverified", "out.unverified-2"]


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("model.layers.0.mlp.down_proj", Level(4, 32, 0.5)),
        ("model.layers.0.mlp.down_proj", Level(4, 32, 0.5, "2:4")),
        ("model.layers.0.mlp.down_proj", Level(4, None, rank=2)),
        ("model.layers.0.mlp.down_proj", Level(4, 64)),
        ("model.embed_tokens", Level(4, 32)),
    ],
)
def test_format_refuses_what_it_cannot_hold(bench: Callable[[TinyKind], Bench], name: str, level: Level) -> None:
    """Sparsity, rank, a packed embedding and groups that do not divide are named, with the way out."""
    at = bench("untied")
    inventory, plan = at.workspace.inventory, at.dense_plan().replace({name: level})
    with pytest.raises(SpecError, match=f"{name} is {level}, which compressed-tensors cannot hold.*--format packed"):
        check_format(inventory, plan, "compressed-tensors")
    check_format(inventory, plan, "packed")
    targets: list[str] = ["packed", "compressed-tensors"]
    for target in targets:
        check_format(inventory, at.dense_plan().replace({"lm_head": Level(8)}), target)

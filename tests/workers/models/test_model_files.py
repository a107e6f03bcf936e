"""Model folders that are unsafe or broken are refused by name, and nothing in them is ever run."""

import json
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from space.errors import ModelError
from tests.workers.models.changed_models import (
    CONFIG,
    WEIGHTS,
    change_config,
    open_model,
    refused,
)
from workers.models.model_files import read_config, resolve_model


def test_good_folder_opens(model: Path) -> None:
    """What the tests below break is whole at first."""
    open_model(model)


@pytest.mark.parametrize("name", ["/no/such/folder", "./no", "~/no-such-folder", "a/b/c", "nothing"])
def test_missing_folder(name: str) -> None:
    """A path that is not there is named, without asking the hub."""
    with pytest.raises(ModelError, match="no such folder") as caught:
        resolve_model(name)
    assert name in str(caught.value)


def test_file_is_no_folder(model: Path) -> None:
    """A weight file given in place of its folder is refused."""
    with pytest.raises(ModelError, match="no such folder"):
        resolve_model(str(model / WEIGHTS))


def test_hub_gives_all_that_a_model_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, tokenizers in every spelling, chat templates, card and licence; no pickle and no code."""
    import huggingface_hub
    from huggingface_hub.utils._paths import filter_repo_objects

    asked: list[str] = []

    def download(_: str, *, allow_patterns: list[str], **__: object) -> str:
        asked.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_model("org/name") == tmp_path
    wanted = [WEIGHTS, CONFIG, "generation_config.json", "tokenizer.json", "vocab.json", "chat_template.jinja"]
    wanted += ["additional_chat_templates/tool_use.jinja", "spiece.model", "qwen.tiktoken", "tekken.json"]
    wanted += ["README.md", "LICENSE", "NOTICE.txt"]
    unwanted = ["pytorch_model.bin", "modeling_x.py", "model.gguf", "additional_chat_templates/x.py"]
    unwanted += ["tokenizer.py", "tokenizer_key.pem", "vocab.key", "chat_template.py", "LICENSE.py"]
    assert list(filter_repo_objects([*wanted, *unwanted], allow_patterns=asked)) == wanted


def test_empty_folder(tmp_path: Path) -> None:
    """A folder without a config is no model folder."""
    refused(tmp_path, r"config\.json cannot be read \(No such file or directory\)")


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
@pytest.mark.parametrize("is_alone", [True, False])
def test_pickle_is_never_opened(model: Path, tmp_path: Path, name: str, is_alone: bool) -> None:  # noqa: FBT001
    """Pickled weights are refused where they are all there is, passed over beside safetensors, and never loaded."""
    sprung = tmp_path / "sprung"
    (model / name).write_bytes(pickle.dumps(_Trap(sprung)))
    if is_alone:
        (model / WEIGHTS).unlink()
        refused(model, f"only pickled weights \\({name}\\), which can run code")
    else:
        open_model(model)
    assert not sprung.exists()
    pickle.loads((model / name).read_bytes())  # noqa: S301 (the trap does work)
    assert sprung.exists()


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoModelForCausalLM": "modeling_x.Model"}, "model_type": "x"},
        {"auto_map": {"AutoModelForCausalLM": "modeling_x.Model"}, "model_type": None},
        {"text_config": {"auto_map": {"AutoConfig": "modeling_x.Config"}}},
        {"parts": [{"inner": {"auto_map": {"AutoModel": "modeling_x.Model"}}}]},
        {"trust_remote_code": True},
    ],
)
def test_code_in_the_folder_is_never_run(model: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    """A config that asks for code, at any depth, is refused, and its code is not imported."""
    sprung = tmp_path / "sprung"
    (model / "modeling_x.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    change_config(model, **values)
    refused(model, "asks to run code from the folder")
    assert not sprung.exists()


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoConfig": "modeling_x.Config", "AutoModelForCausalLM": "modeling_x.Model"}},
        {"auto_map": {"AutoModel": "org/name--modeling_x.Model"}},
        {"part": {"model_type": "qwen3", "auto_map": {"AutoConfig": "modeling_x.Config"}}},
        {"parts": [{"model_type": "phi3", "auto_map": {"AutoConfig": "modeling_x.Config"}}]},
    ],
)
def test_code_that_is_not_needed_is_passed_over(model: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    """Where transformers has the type itself, the folder's code is not imported, and an export does not name it."""
    sprung = tmp_path / "sprung"
    (model / "modeling_x.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    change_config(model, **values)
    open_model(model)
    assert not sprung.exists()
    assert "auto_map" not in json.dumps(read_config(model))


def test_code_of_the_tokenizer_is_never_run(model: Path, tmp_path: Path, text_file: Path) -> None:
    """A tokenizer that asks for code is loaded without it or refused."""
    from tests.workers.tiny_models import text_request
    from workers.text.tokens import tokenize

    sprung = tmp_path / "sprung"
    (model / "tokenization_x.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["tokenization_x.Tokenizer", None]}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    with suppress(ModelError):
        tokenize(model, text_request(text_file), tmp_path)
    assert not sprung.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\x00"])
def test_config_that_is_no_object(model: Path, text: str) -> None:
    """A config that cannot be read is named."""
    (model / CONFIG).write_text(text)
    refused(model, "not valid JSON|not a JSON object")


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "no_such_type"},
        {"model_type": "t5"},
        {"hidden_size": "wide"},
        {"hidden_size": -4},
        {"num_attention_heads": 0},
        {"num_hidden_layers": None},
        {"hidden_act": "no_such_function"},
    ],
)
def test_config_that_builds_no_model(model: Path, values: dict[str, Any]) -> None:
    """An unknown architecture or a senseless number is the model's error, not a traceback."""
    change_config(model, **values)
    refused(model, "transformers cannot build|the weights lack|config.json asks for")


def test_already_quantized(model: Path) -> None:
    """A quantized checkpoint is refused."""
    change_config(model, quantization_config={"quant_method": "gptq", "bits": 4})
    refused(model, "already quantized. Submit the original")


@pytest.mark.parametrize("nothing", [None, {}])
def test_not_quantized(model: Path, nothing: object) -> None:
    """A config that says so in its own way is of a dense model."""
    change_config(model, quantization_config=nothing)
    open_model(model)
    assert "quantization_config" not in read_config(model)

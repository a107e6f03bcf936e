"""Model folders that are unsafe or broken are refused by name, and nothing in them is ever run."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from space.errors import ModelError
from tests.workers.tiny_models import TinyKind
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.models.model_files import model_digest, read_config, resolve_model

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture
def model(tiny: Callable[[TinyKind], Path], tmp_path: Path) -> Path:
    """Give a copy of a tiny model that a test may break."""
    return Path(shutil.copytree(tiny("tied"), tmp_path / "model"))


def _open(folder: Path) -> None:
    """Do all that a job does to a folder before it searches."""
    found = resolve_model(str(folder))
    inspect_model(found)
    model_digest(found)
    load_model(found)


def _refused(folder: Path, told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        _open(folder)
    assert str(folder) in str(caught.value)


def _change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def _change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def _change_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_good_folder_opens(model: Path) -> None:
    """What the tests below break is whole at first."""
    _open(model)


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
    _refused(tmp_path, r"config\.json cannot be read \(No such file or directory\)")


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
        _refused(model, f"only pickled weights \\({name}\\), which can run code")
    else:
        _open(model)
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
    _change_config(model, **values)
    _refused(model, "asks to run code from the folder")
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
    _change_config(model, **values)
    _open(model)
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
    _refused(model, "not valid JSON|not a JSON object")


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
    _change_config(model, **values)
    _refused(model, "transformers cannot build|the weights lack|config.json asks for")


def test_already_quantized(model: Path) -> None:
    """A quantized checkpoint is refused."""
    _change_config(model, quantization_config={"quant_method": "gptq", "bits": 4})
    _refused(model, "already quantized. Submit the original")


@pytest.mark.parametrize("nothing", [None, {}])
def test_not_quantized(model: Path, nothing: object) -> None:
    """A config that says so in its own way is of a dense model."""
    _change_config(model, quantization_config=nothing)
    _open(model)
    assert "quantization_config" not in read_config(model)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1, -1000])
def test_truncated_weights(model: Path, kept: int) -> None:
    """A download that broke off anywhere is told as such."""
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(data[:kept])
    _refused(model, r"model\.safetensors: .*(truncated|not a safetensors file)")


@pytest.mark.parametrize(
    "header",
    [
        b"\xff" * 64,
        b"[]".ljust(64),
        b'{"x": 1}'.ljust(64),
        b'{"x": {"dtype": "BF16"}}'.ljust(64),
        b'{"x": {"dtype": "BF16", "shape": 3, "data_offsets": [0, 8]}}'.ljust(64),
        b'{"x": {"dtype": "BF16", "shape": [4], "data_offsets": ["a", "b"]}}'.ljust(72),
        b'{"x": {"dtype": "BF16", "shape": [4], "data_offsets": [0]}}'.ljust(64),
    ],
)
def test_garbage_header(model: Path, header: bytes) -> None:
    """A header that is not one is told as such."""
    (model / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    _refused(model, r"model\.safetensors: .*(truncated|not a safetensors file)")


@pytest.mark.parametrize("offsets", [[0, 4], [-8, 0], [8, 0]])
def test_lying_header(model: Path, offsets: list[int]) -> None:
    """A tensor whose place does not hold its shape is refused before anything is read."""

    def change(header: dict[str, Any]) -> None:
        header["model.layers.0.input_layernorm.weight"]["data_offsets"] = offsets

    _change_header(model, change)
    _refused(model, r"model\.safetensors: .*input_layernorm\.weight has no place for \(64,\)")


def test_unknown_type(model: Path) -> None:
    """A tensor type that cannot be counted is named."""
    _change_header(model, lambda header: header["model.norm.weight"].update(dtype="F8_E4M3"))
    _refused(model, r"model\.norm\.weight has the type F8_E4M3")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_finite(model: Path, value: float) -> None:
    """One bad value is found, and its tensor named."""
    _change_weights(model, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"].view(-1)[7].fill_(value))
    _refused(model, r"model\.layers\.1\.mlp\.up_proj\.weight holds NaN or infinite")


def test_missing_tensor(model: Path) -> None:
    """A gap is refused: transformers would fill it with random numbers."""
    _change_weights(model, lambda tensors: tensors.pop("model.layers.0.self_attn.k_proj.weight"))
    _refused(model, r"the weights lack model\.layers\.0\.self_attn\.k_proj\.weight")
    with pytest.raises(ModelError, match=r"the weights lack model\.layers\.0\.self_attn\.k_proj\.weight"):
        load_model(model)


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        (lambda name: f"language_model.{name}", r"have 'language_model\.' before the names that transformers gives"),
        (lambda name: f"module.{name}", r"have 'module\.' before the names .* such as module\.model\.embed_tokens"),
        (lambda name: f"base_model.model.{name}", r"have 'base_model\.model\.' before .* take it away in the weight"),
        (lambda name: name.replace("embed_tokens", "wte"), r"the weights lack model\.embed_tokens\.weight"),
        (
            lambda name: name.replace("model.embed_tokens", "lm_head"),
            r"stores model\.embed_\S+ as lm_head\.weight only",
        ),
    ],
)
def test_other_names(model: Path, rename: Callable[[str], str], told: str) -> None:
    """Weights that are there under other names are told as such, and no others."""

    def change(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[rename(name)] = tensors.pop(name)

    _change_weights(model, change)
    _refused(model, told)


def test_old_names(model: Path) -> None:
    """Weights without the first part of their names are those of the same parameters, as transformers has it."""
    before = {m.name: (m.parameter, m.weight.shape) for m in inspect_model(model).modules}
    _change_weights(model, lambda tensors: [tensors.update({n[6:]: tensors.pop(n)}) for n in list(tensors)])
    found = inspect_model(model).modules
    assert {m.name: (m.parameter, m.weight.shape) for m in found} == before
    assert all(m.is_layer and m.sources == (f"{m.name[6:]}.weight",) for m in found)


def test_wrong_shape(model: Path) -> None:
    """A tensor of another shape than the config asks for is refused with both shapes."""
    _change_weights(model, lambda tensors: tensors.update({"model.norm.weight": torch.ones(63)}))
    _refused(model, r"model\.norm\.weight is stored as \(63,\), but config\.json asks for \(64,\)")
    with pytest.raises(ModelError, match=r"model\.norm\.weight is stored as"):
        load_model(model)


def _store_head(folder: Path, change: Callable[[Tensor], Tensor]) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = change(tensors["model.embed_tokens.weight"].clone())

    _change_weights(folder, add)


def _changed(weight: Tensor) -> Tensor:
    weight.view(-1)[-1].add_(1)
    return weight


def test_tied_weight_may_be_stored_twice(model: Path) -> None:
    """Equal bytes are one weight: the copy is no module, and no bytes of the model."""
    before = inspect_model(model)
    _store_head(model, lambda weight: weight)
    _open(model)
    after = inspect_model(model)
    assert (after.modules, set(after.others)) == (before.modules, set(before.others))


@pytest.mark.parametrize("change", [_changed, Tensor.float, lambda weight: weight[:-1].clone()])
def test_tied_weights_that_differ(model: Path, change: Callable[[Tensor], Tensor]) -> None:
    """A head of its own under a config that ties it is refused: transformers would keep it, and nobody would know."""
    _store_head(model, change)
    _refused(model, r"config\.json ties lm_head to model\.embed_tokens, .* set tie_word_embeddings to false")


def test_untied_as_told_both_count(model: Path) -> None:
    """What the refusal advises gives the model that transformers runs."""
    _store_head(model, _changed)
    _change_config(model, tie_word_embeddings=False)
    _open(model)
    assert [m.name for m in inspect_model(model).modules][-1] == "lm_head"
    head = load_file(model / WEIGHTS)["lm_head.weight"]
    assert torch.equal(load_model(model).lm_head.weight, head.float())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"x": "../../etc/passwd"}}'])
def test_index_that_misleads(model: Path, text: str) -> None:
    """An index that cannot be read, or names a file elsewhere, is refused."""
    (model / f"{WEIGHTS}.index.json").write_text(text)
    _refused(model, r"model\.safetensors\.index\.json")


def test_missing_shard(model: Path) -> None:
    """A shard that the index names and nobody has is told."""
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"x": "model-00002.safetensors"}}))
    _refused(model, r"names model-00002\.safetensors, which is missing")


def test_shards_are_read_as_one(model: Path) -> None:
    """A model in two files has the inventory of the same model in one."""
    whole = inspect_model(model)
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({n: t.clone() for n, t in tensors.items() if files[n] == file}, model / file, {"format": "pt"})
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    _open(model)
    assert inspect_model(model).modules == whole.modules
    assert set(inspect_model(model).others) == set(whole.others)


def test_tensors_the_model_does_not_know_are_left_out(model: Path) -> None:
    """What an older library stored beside the weights is no part of the model, its bytes or its export."""
    before = inspect_model(model)
    _change_weights(model, lambda tensors: tensors.update({"model.rotary.inv_freq": torch.ones(8)}))
    after = inspect_model(model)
    assert (after.modules, set(after.others)) == (before.modules, set(before.others))
    _open(model)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (8,)),
        ("model.embeddings.position_ids", (1, 128)),
        ("model.layers.1.attn.masked_bias", ()),
        ("model.layers.1.attention.bias", (1, 1, 8, 8)),
    ],
)
def test_what_follows_from_the_config_is_left_out(model: Path, name: str, shape: tuple[int, ...]) -> None:
    """Buffers that older libraries stored beside the weights are no part of the model."""
    before = inspect_model(model)
    _change_weights(model, lambda tensors: tensors.update({name: torch.ones(shape)}))
    assert inspect_model(model).dense_bytes == before.dense_bytes
    _open(model)


@pytest.mark.parametrize(
    "name",
    [
        "score.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.2.mlp.up_proj.weight",
        "vision_tower.patch_embedding.weight",
        "model.layers.1.attention.bias",
        "model.layers.0.self_attn.q_proj.weight_scale_inv",
    ],
)
def test_tensors_that_would_be_lost_are_refused(model: Path, name: str) -> None:
    """Transformers drops what the class of the config does not have; nothing is dropped silently here."""
    _change_weights(model, lambda tensors: tensors.update({name: torch.ones(4)}))
    _refused(model, rf"{name.replace('.', '[.]')} and 0 more stored tensors are no part of the LlamaForCausalLM")


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("LlamaForTokenClassification", "asks for LlamaForTokenClassification of .* only LlamaForCausalLM can"),
        ("LlamaModel", "asks for LlamaModel of the type llama, of which only LlamaForCausalLM can be searched"),
        ("WhisperForConditionalGeneration", "asks for WhisperForConditionalGeneration of .* only LlamaForCausalLM can"),
        (
            "MyOwnForCausalLM",
            "MyOwnForCausalLM of the type llama, which transformers does not know; if its weights are",
        ),
    ],
)
def test_other_classes_are_refused(model: Path, named: str, told: str) -> None:
    """The class that the config names is the one that is built, or nothing is."""
    _change_config(model, architectures=[named])
    _refused(model, told)


@pytest.mark.parametrize("named", [None, [], ["LLaMAForCausalLM"]])
def test_class_that_is_not_named(model: Path, named: object) -> None:
    """Where the config names none, or the same in another spelling, the tensors decide."""
    _change_config(model, architectures=named)
    _open(model)


def test_digest_names_the_content(model: Path) -> None:
    """One changed bit is another model; a changed README is not."""
    before = model_digest(model)
    (model / "README.md").write_text("x")
    assert model_digest(model) == before
    _change_weights(model, lambda tensors: tensors["model.norm.weight"].view(-1)[0].add_(1))
    assert model_digest(model) != before
    assert read_config(model)["model_type"] == "llama"

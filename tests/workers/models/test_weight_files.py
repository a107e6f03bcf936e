"""Weight files that are broken, or of another model, are refused by name; what a model needs of them is found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from space.errors import ModelError
from tests.workers.models.changed_models import (
    WEIGHTS,
    change_config,
    change_header,
    change_weights,
    open_model,
    refused,
)
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.models.model_files import model_digest, read_config


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1, -1000])
def test_truncated_weights(model: Path, kept: int) -> None:
    """A download that broke off anywhere is told as such."""
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(data[:kept])
    refused(model, r"model\.safetensors: .*(truncated|not a safetensors file)")


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
    refused(model, r"model\.safetensors: .*(truncated|not a safetensors file)")


@pytest.mark.parametrize("offsets", [[0, 4], [-8, 0], [8, 0]])
def test_lying_header(model: Path, offsets: list[int]) -> None:
    """A tensor whose place does not hold its shape is refused before anything is read."""

    def change(header: dict[str, Any]) -> None:
        header["model.layers.0.input_layernorm.weight"]["data_offsets"] = offsets

    change_header(model, change)
    refused(model, r"model\.safetensors: .*input_layernorm\.weight has no place for \(64,\)")


def test_unknown_type(model: Path) -> None:
    """A tensor type that cannot be counted is named."""
    change_header(model, lambda header: header["model.norm.weight"].update(dtype="F8_E4M3"))
    refused(model, r"model\.norm\.weight has the type F8_E4M3")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_finite(model: Path, value: float) -> None:
    """One bad value is found, and its tensor named."""
    change_weights(model, lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"].view(-1)[7].fill_(value))
    refused(model, r"model\.layers\.1\.mlp\.up_proj\.weight holds NaN or infinite")


def test_missing_tensor(model: Path) -> None:
    """A gap is refused: transformers would fill it with random numbers."""
    change_weights(model, lambda tensors: tensors.pop("model.layers.0.self_attn.k_proj.weight"))
    refused(model, r"the weights lack model\.layers\.0\.self_attn\.k_proj\.weight")
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

    change_weights(model, change)
    refused(model, told)


def test_old_names(model: Path) -> None:
    """Weights without the first part of their names are those of the same parameters, as transformers has it."""
    before = {m.name: (m.parameter, m.weight.shape) for m in inspect_model(model).modules}
    change_weights(model, lambda tensors: [tensors.update({n[6:]: tensors.pop(n)}) for n in list(tensors)])
    found = inspect_model(model).modules
    assert {m.name: (m.parameter, m.weight.shape) for m in found} == before
    assert all(m.is_layer and m.sources == (f"{m.name[6:]}.weight",) for m in found)


def test_wrong_shape(model: Path) -> None:
    """A tensor of another shape than the config asks for is refused with both shapes."""
    change_weights(model, lambda tensors: tensors.update({"model.norm.weight": torch.ones(63)}))
    refused(model, r"model\.norm\.weight is stored as \(63,\), but config\.json asks for \(64,\)")
    with pytest.raises(ModelError, match=r"model\.norm\.weight is stored as"):
        load_model(model)


def _store_head(folder: Path, change: Callable[[Tensor], Tensor]) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = change(tensors["model.embed_tokens.weight"].clone())

    change_weights(folder, add)


def _changed(weight: Tensor) -> Tensor:
    weight.view(-1)[-1].add_(1)
    return weight


def test_tied_weight_may_be_stored_twice(model: Path) -> None:
    """Equal bytes are one weight: the copy is no module, and no bytes of the model."""
    before = inspect_model(model)
    _store_head(model, lambda weight: weight)
    open_model(model)
    after = inspect_model(model)
    assert (after.modules, set(after.others)) == (before.modules, set(before.others))


@pytest.mark.parametrize("change", [_changed, Tensor.float, lambda weight: weight[:-1].clone()])
def test_tied_weights_that_differ(model: Path, change: Callable[[Tensor], Tensor]) -> None:
    """A head of its own under a config that ties it is refused: transformers would keep it, and nobody would know."""
    _store_head(model, change)
    refused(model, r"config\.json ties lm_head to model\.embed_tokens, .* set tie_word_embeddings to false")


def test_untied_as_told_both_count(model: Path) -> None:
    """What the refusal advises gives the model that transformers runs."""
    _store_head(model, _changed)
    change_config(model, tie_word_embeddings=False)
    open_model(model)
    assert [m.name for m in inspect_model(model).modules][-1] == "lm_head"
    head = load_file(model / WEIGHTS)["lm_head.weight"]
    assert torch.equal(load_model(model).lm_head.weight, head.float())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"x": "../../etc/passwd"}}'])
def test_index_that_misleads(model: Path, text: str) -> None:
    """An index that cannot be read, or names a file elsewhere, is refused."""
    (model / f"{WEIGHTS}.index.json").write_text(text)
    refused(model, r"model\.safetensors\.index\.json")


def test_missing_shard(model: Path) -> None:
    """A shard that the index names and nobody has is told."""
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"x": "model-00002.safetensors"}}))
    refused(model, r"names model-00002\.safetensors, which is missing")


def test_shards_are_read_as_one(model: Path) -> None:
    """A model in two files has the inventory of the same model in one."""
    whole = inspect_model(model)
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({n: t.clone() for n, t in tensors.items() if files[n] == file}, model / file, {"format": "pt"})
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    open_model(model)
    assert inspect_model(model).modules == whole.modules
    assert set(inspect_model(model).others) == set(whole.others)


def test_tensors_the_model_does_not_know_are_left_out(model: Path) -> None:
    """What an older library stored beside the weights is no part of the model, its bytes or its export."""
    before = inspect_model(model)
    change_weights(model, lambda tensors: tensors.update({"model.rotary.inv_freq": torch.ones(8)}))
    after = inspect_model(model)
    assert (after.modules, set(after.others)) == (before.modules, set(before.others))
    open_model(model)


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
    change_weights(model, lambda tensors: tensors.update({name: torch.ones(shape)}))
    assert inspect_model(model).dense_bytes == before.dense_bytes
    open_model(model)


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
    change_weights(model, lambda tensors: tensors.update({name: torch.ones(4)}))
    refused(model, rf"{name.replace('.', '[.]')} and 0 more stored tensors are no part of the LlamaForCausalLM")


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (
            "LlamaForTokenClassification",
            "asks for LlamaForTokenClassification of .* only LlamaForCausalLM and LlamaModel can",
        ),
        (
            "WhisperForConditionalGeneration",
            "asks for WhisperForConditionalGeneration of .* only LlamaForCausalLM and LlamaModel can",
        ),
        (
            "MyOwnForCausalLM",
            "MyOwnForCausalLM of the type llama, which transformers does not know; if its weights are",
        ),
    ],
)
def test_other_classes_are_refused(model: Path, named: str, told: str) -> None:
    """The class that the config names is the one that is built, or nothing is."""
    change_config(model, architectures=[named])
    refused(model, told)


@pytest.mark.parametrize("named", [None, [], ["LLaMAForCausalLM"]])
def test_class_that_is_not_named(model: Path, named: object) -> None:
    """Where the config names none, or the same in another spelling, the tensors decide."""
    change_config(model, architectures=named)
    open_model(model)


def test_digest_names_the_content(model: Path) -> None:
    """One changed bit is another model; a changed README is not."""
    before = model_digest(model)
    (model / "README.md").write_text("x")
    assert model_digest(model) == before
    change_weights(model, lambda tensors: tensors["model.norm.weight"].view(-1)[0].add_(1))
    assert model_digest(model) != before
    assert read_config(model)["model_type"] == "llama"

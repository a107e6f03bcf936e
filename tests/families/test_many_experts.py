"""A mixture of 60 blocks x 64 experts is no larger to search than a dense model of as many blocks."""

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from search.decide.trial_limits import max_trials
from space.errors import ModelError
from space.inventory import Inventory
from space.level import Level
from space.menu import Menu, build_space
from space.spec import make_spec
from workers.families.read_inventory import inspect_model

_BLOCKS, _EXPERTS, _HIDDEN = 60, 64, 64
_SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": _HIDDEN,
    "num_hidden_layers": _BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    """Give the inventory of the mixture, whose experts are stored one by one, as on the hub."""
    own = {"num_experts": _EXPERTS, "num_experts_per_tok": 4, "moe_intermediate_size": 32}
    return _inventory(tmp_path_factory.mktemp("moe"), "Qwen3Moe", own)


def test_experts_of_a_block_are_two_sites(mixture: Inventory, tmp_path: Path) -> None:
    """So that a job makes at most as many probes as for a dense model of as many blocks."""
    dense = _inventory(tmp_path, "Qwen3", {})
    assert len(mixture.modules) <= len(dense.modules)
    spec = make_spec(model="any", budget="40%")
    assert max_trials(spec, len(mixture.modules)) <= max_trials(spec, len(dense.modules))


def test_every_expert_is_in_a_site(mixture: Inventory) -> None:
    """All 11,520 tensors of experts, each once."""
    sources = [name for m in mixture.modules for name in m.sources if ".experts." in name]
    assert len(sources) == len(set(sources)) == _BLOCKS * _EXPERTS * 3
    assert not [t.name for t in mixture.others if ".experts." in t.name]


def test_more_experts_than_there_are_is_refused(tmp_path: Path) -> None:
    """Before a job exists: nothing runs such a model."""
    own = {"num_experts": _EXPERTS, "num_experts_per_tok": 65, "moe_intermediate_size": 32}
    with pytest.raises(ModelError, match="each token to 65 experts, and the files hold 64 of a block"):
        _inventory(tmp_path, "Qwen3Moe", own)


def test_a_menu_is_made_once(mixture: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sites there are: a dry run answers while its user waits."""
    made, levels = list[Menu](), Menu.levels

    def counted(menu: Menu) -> tuple[Level, ...]:
        made.append(menu)
        return levels(menu)

    monkeypatch.setattr(Menu, "levels", counted)
    assert len(build_space(mixture, Menu(), "packed", ()).levels) == len(mixture.modules)
    assert len(made) == 1


def _inventory(folder: Path, kind: str, own: dict[str, Any]) -> Inventory:
    """Return the inventory of a model whose weights are a hole in a file: none of them is read."""
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(**_SIZES, **own)
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
    config.architectures = [f"{kind}ForCausalLM"]
    config.save_pretrained(folder)
    header: dict[str, Any] = {}
    end = 0
    for name, shape in _stored(model):
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return inspect_model(folder)


def _stored(model: Any) -> list[tuple[str, list[int]]]:
    """Return the names and shapes that the hub's files have."""
    found: list[tuple[str, list[int]]] = []
    for name, parameter in model.named_parameters():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            found.append((name, list(parameter.shape)))
            continue
        stack = name.rpartition(".")[0]
        width = model.config.moe_intermediate_size
        parts = {"down_proj": [_HIDDEN, width]} if name.endswith("down_proj") else {}
        parts = parts or {"gate_proj": [width, _HIDDEN], "up_proj": [width, _HIDDEN]}
        found += [(f"{stack}.{e}.{last}.weight", shape) for e in range(_EXPERTS) for last, shape in parts.items()]
    return found

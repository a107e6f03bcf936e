"""Weights that a class looks at while it is loaded: found on the meta device, and no others."""

from pathlib import Path

import pytest

from tests.families.zoo import make_family
from workers.families.read_inventory import inspect_model


@pytest.mark.parametrize(
    ("family", "ends"),
    [("llama", ()), ("nanochat", ("o_proj",)), ("mamba", ("dt_proj", "out_proj")), ("bert", ())],
)
def test_layers_that_are_looked_at(family: str, ends: tuple[str, ...], tmp_path: Path) -> None:
    """Transformers' own code names them: `_init_weights` of each class."""
    inventory = inspect_model(make_family(family, tmp_path))
    found = {module.name.rpartition(".")[2] for module in inventory.modules if module.initialised}
    assert found == set(ends)
    assert inventory.merged is None


def test_a_parameter_that_is_stored_in_parts(tmp_path: Path) -> None:
    """It is named: transformers makes a convolution of those of q, k and v."""
    inventory = inspect_model(make_family("olmo_hybrid", tmp_path))
    assert inventory.merged == "model.layers.0.linear_attn.conv1d.weight"

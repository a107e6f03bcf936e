"""Each expert of a stack has levels of its own: built, measured, exported, loaded again."""

from pathlib import Path
from typing import Any

import pytest
import torch

from search.request.prepare import prepare
from space.errors import SpecError
from space.inventory import with_experts_apart
from space.spec import make_spec
from tests.end_to_end.jobs import open_service, run_job, small_spec
from tests.families.short_path import walk
from tests.families.zoo import make_family
from tests.workers.tiny_models import write_text_file
from workers.families.read_inventory import inspect_model
from workers.runtime.loaders.exported_loaders import load_exported
from workers.runtime.packed_tensor import PackedStack

_MENU = {"budget": "40%", "bits": (3, 8), "group_sizes": (32,), "sparsities": (0.0,), "ranks": (0,)}


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "llama4_text"])
def test_the_whole_path(family: str, tmp_path: Path) -> None:
    """Experts stored one by one, as transposed stacks with biases, and multiplied all at once."""
    model = make_family(family, tmp_path / "model")
    tied = inspect_model(model)
    apart = with_experts_apart(tied)
    assert sorted({s for m in apart.modules for s in m.sources}) == sorted(s for m in tied.modules for s in m.sources)
    assert sum(m.weight.num_elements for m in apart.modules) == sum(m.weight.num_elements for m in tied.modules)
    assert walk(model, tmp_path, apart) == 0


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a mixture of four experts a block."""
    return make_family("qwen3_moe", tmp_path_factory.mktemp("mixture") / "model")


@pytest.mark.usefixtures("reload_here")
def test_a_job(mixture: Path, tmp_path: Path) -> None:
    """Experts of one block have different levels, in the search as in the files; a stack that is pinned stays dense.

    A job on the same text before it had them tied.
    """
    pins = (("layers.0.mlp.experts.down_proj", "dense"),)
    text = write_text_file(tmp_path / "text.txt")
    spec = small_spec(mixture, text, **_MENU, experts="apart", pins=pins, max_trials=24)
    service = open_service(tmp_path / "home")
    run_job(service, small_spec(mixture, text, **_MENU, max_trials=8))
    job_id, document = run_job(service, spec)
    assert document.experts is not None
    exported = service.export(job_id, tmp_path / "out", refit=False)
    assert exported.logit_difference == 0
    model, problems = load_exported(tmp_path / "out")
    assert not problems
    stacks = {name: module for name, module in model.named_modules() if isinstance(module, PackedStack)}
    assert len(stacks) == 2 * inspect_model(mixture).num_blocks - 1
    assert any(len({expert.level for expert in stack.experts}) > 1 for stack in stacks.values())
    dense = model.dequantize()
    ids = torch.arange(5, 29)[None]
    again, _ = load_exported(tmp_path / "out")
    assert torch.allclose(dense(ids).logits, again(ids).logits, atol=1e-5)
    again.save_pretrained(tmp_path / "again")
    saved, problems = load_exported(tmp_path / "again")
    assert not problems
    assert torch.equal(saved(ids).logits, again(ids).logits)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"target": "exl3", "kinds": ("exl3",)}, "has one level for all experts of a block; use"),
        ({"pins": (("experts.down_proj.1", "dense"),)}, "keeps some experts dense; pin all of its experts dense"),
    ],
)
def test_what_no_file_holds_is_refused(mixture: Path, options: dict[str, Any], told: str) -> None:
    """Before a job exists, with what to do."""
    with pytest.raises(SpecError, match=told):
        prepare(make_spec(model=str(mixture), experts="apart", **{**_MENU, **options}))


def test_a_model_without_experts_is_refused(tmp_path: Path) -> None:
    """The option is no promise that nothing keeps."""
    model = make_family("llama", tmp_path)
    with pytest.raises(SpecError, match="has no experts that share a tensor; leave the option out"):
        prepare(make_spec(model=str(model), experts="apart", **_MENU))

"""Bits of the key/value cache inside a budget: searched beside the weights', exported, and held by who generates."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search.request.prepare import prepare
from space.errors import SpecError
from tests.end_to_end.jobs import PlainService, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from workers.kernels.key_values.packed_layer import PackedLayer

Tiny = Callable[[TinyKind], Path]
CONTEXT, BATCH = 512, 2


@pytest.mark.slow
def test_a_budget_of_weights_and_cache(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, reload_here: None
) -> None:
    """The front fits with its cache, the export says what it takes, and that is what generating allocates."""
    folder = tiny("untied")
    spec = small_spec(
        folder, text_file, budget="150KB", context=CONTEXT, batch=BATCH, cache_bits=(16, 8, 4), max_trials=16
    )
    job_id, front = run_job(service, spec)
    best = front.recommended
    assert best is not None
    assert best.size_bytes <= 150_000
    found = service.export(job_id, tmp_path / "out", point=best.point, refit=False)
    record = json.loads((tmp_path / "out" / "compression.json").read_text(encoding="utf-8"))
    cache = record["key_value_cache"]
    assert found.size_bytes + cache["size_bytes"] == best.size_bytes
    levels = {name: text for name, text in record["plan"].items() if ".self_attn." in name and "proj" not in name}
    assert len(levels) == 4
    assert "kv4" in levels.values() or "kv8" in levels.values()
    assert _allocated(tmp_path / "out") == cache["size_bytes"]
    assert service.plans(front)[best.point].to_json() == record["plan"]


def _allocated(folder: Path) -> int:
    """Return the bytes of the cache of a checkpoint after so many tokens."""
    import transformers

    import tightfit.hf  # noqa: F401 (registers the format)

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.config.max_position_embeddings = CONTEXT
    tokens = torch.randint(5, 300, (BATCH, CONTEXT), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layers = model(tokens, use_cache=True).past_key_values.layers
    return sum(c.nbytes if isinstance(c, PackedLayer) else c.keys.nbytes + c.values.nbytes for c in layers)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"context": 0}, "say how many tokens"),
        ({"target": "onnx"}, "--target onnx has none; use --target packed or gguf"),
        ({"target": "gguf", "cache_bits": (16, 2)}, "has 4, 5, 8, 16 bits; use --target packed or mlx"),
        ({"target": "gguf"}, "keeps heads of a multiple of 32 values in fewer bits, and model"),
        ({"target": "vllm", "gpu_generation": "ampere"}, "no kernel for it on --gpu-generation ampere"),
        ({"pins": (("keys$", "kv3"),)}, "kv3"),
        ({"pins": (("q_proj$", "kv4"),)}, "matches no module"),
    ],
)
def test_refused_before_a_job_exists(tiny: Tiny, values: dict[str, Any], told: str) -> None:
    """Each in one sentence."""
    spec: dict[str, Any] = {"budget": "60%", "context": 16, "cache_bits": (16, 8), **values}
    with pytest.raises(SpecError, match=told):
        prepare(small_spec(tiny("untied"), None, **spec))


def test_plans_with_caches_beside_those_without(tiny: Tiny) -> None:
    """A plan whose caches are in their own type goes with any request; one with fewer bits needs them searched."""
    folder, keys = tiny("untied"), "model.layers.0.self_attn.keys"
    own = (("ours", (("model.layers.0.mlp.up_proj", "b4-g32"), (keys, "dense"))),)
    found = prepare(small_spec(folder, None, budget="60%", plans=own)).space.given[0][1]
    assert str(found["model.layers.0.mlp.up_proj"]) == "b4-g32"
    assert keys not in found.mapping
    fewer: dict[str, Any] = {"budget": "150KB", "plans": (("ours", ((keys, "kv4"),)),)}
    with pytest.raises(SpecError, match=r"--plan ours: model\.layers\.0\.self_attn\.keys is kept as kv4 there; search"):
        prepare(small_spec(folder, None, **fewer))
    searched = prepare(small_spec(folder, None, **fewer, context=512, cache_bits=(16, 4), batch=2))
    assert str(searched.space.given[0][1][keys]) == "kv4"


def test_nothing_changes_without_it(tiny: Tiny) -> None:
    """A request that does not ask for it has the sites, sizes and plans that it had."""
    plain = prepare(small_spec(tiny("untied"), None, budget="60%"))
    assert plain.inventory.caches == ()
    assert plain.inventory.sites is plain.inventory.modules
    counted = prepare(small_spec(tiny("untied"), None, budget="60%", context=16, batch=2))
    assert counted.cache_bytes == 2 * 2 * 16 * 2 * 2 * 16 * 2  # layers, keys and values, tokens, sequences, heads, ...
    assert counted.space.sizes == plain.space.sizes

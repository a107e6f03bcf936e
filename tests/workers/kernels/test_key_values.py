"""Keys and values in few bits: their bytes are those that are counted, and generating is what was measured."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from space.cost import module_bytes
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.targets.cache_sites import with_cache_sites
from tests.workers.tiny_models import make_deep
from workers.compress.bit_packing import pack_bits
from workers.families.read_inventory import inspect_model
from workers.kernels.key_values.key_value_codes import decode, encode, rounded
from workers.kernels.key_values.packed_layer import PackedLayer
from workers.kernels.key_values.remembering import in_own_type, remember_as
from workers.run.engine import Engine, no_level

TEXTS = {
    "model.layers.0.self_attn.keys": "kv8",
    "model.layers.0.self_attn.values": "kv4",
    "model.layers.1.self_attn.values": "kv2",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model of three blocks."""
    return make_deep(tmp_path_factory.mktemp("deep"), 3)


def _tokens() -> torch.Tensor:
    return torch.randint(5, 300, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_are_the_nearest_and_packed_as_weights_are(bits: int) -> None:
    """Half a step is the largest error, float16's rounding of step and least value aside; a flat row is exact."""
    values = torch.randn(2, 3, 5, 17, generator=torch.Generator().manual_seed(bits))
    values[0, 0, 0] = 0.5
    codes = encode(values, bits)
    wrong = (decode(codes, bits, 17, torch.float32) - values).abs()
    assert (wrong <= codes.scale_bht1.float() * 0.51 + 2e-3).all()
    assert wrong[0, 0, 0].max() == 0
    whole = ((values - codes.low_bht1.float()) / codes.scale_bht1.float().clamp_min(1e-9)).round()
    stream = pack_bits(whole.clamp(0, 2**bits - 1).view(-1, 17), bits)
    assert torch.equal(stream, codes.codes_bhts.reshape(30, -1))


def test_bytes_are_those_that_are_counted(folder: Path) -> None:
    """Of every bit-width, in a layer that generating filled."""
    inventory, model = inspect_model(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    sites = with_cache_sites(inventory, context=24, batch=2, target="packed")
    assert [cache.name for cache in sites.caches][:2] == list(TEXTS)[:2]
    assert sum(layer.size_bytes(24) for layer in sites.key_value or ()) == 0
    remember_as(model, TEXTS)
    cache = DynamicCache(config=model.config)
    model(_tokens(), past_key_values=cache)
    levels = {c.name: parse_level(TEXTS.get(c.name, "dense")) for c in sites.caches}
    counted = [module_bytes(c, levels[c.name]) for c in sites.caches]
    held = [layer.nbytes if isinstance(layer, PackedLayer) else layer.keys.nbytes * 2 for layer in cache.layers]
    assert held == [sum(pair) for pair in zip(counted[::2], counted[1::2], strict=True)]


def test_generating_is_what_a_whole_forward_gives(folder: Path) -> None:
    """Token by token with a cache, in one forward without, and by the engine that measures."""
    tokens, model = _tokens(), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    dense = model(tokens).logits
    remember_as(model, TEXTS)
    whole, cache = model(tokens, use_cache=False).logits, None
    steps = []
    for column in tokens.split([10, *[1] * 14], dim=1):
        output = model(column, past_key_values=cache, use_cache=True)
        steps.append(output.logits)
        cache = output.past_key_values
    assert (whole - dense).abs().max() > 1e-2
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=2e-5, rtol=1e-4)
    inventory = with_cache_sites(inspect_model(folder), context=1, batch=1, target="packed")
    for streams in (False, True):
        engine = Engine(folder, inventory, streams=streams)
        plan = engine.dense_plan.replace({name: parse_level(text) for name, text in TEXTS.items()})
        (found,) = engine.logits(plan, no_level, [tokens])
        torch.testing.assert_close(found, whole, atol=2e-5, rtol=1e-4)
        (found,) = engine.logits(engine.dense_plan, no_level, [tokens])
        torch.testing.assert_close(found, dense, atol=2e-5, rtol=1e-4)


def test_what_is_remembered_can_be_left_alone_for_a_while(folder: Path) -> None:
    """So that fast kernels are held against exact ones without steps of keys and values that the least of it moves."""
    tokens, model = _tokens(), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with in_own_type(model):
        dense = model(tokens, use_cache=False).logits
    remember_as(model, TEXTS)
    rounded_ones = model(tokens, use_cache=False).logits
    with in_own_type(model):
        assert torch.equal(model(tokens, use_cache=False).logits, dense)
    assert torch.equal(model(tokens, use_cache=False).logits, rounded_ones)
    assert not torch.allclose(rounded_ones, dense, atol=1e-2)


def test_a_walk_over_cache_levels_gives_the_bits_of_fresh_runs(folder: Path) -> None:
    """What the engine keeps between plans, inside a block too, is never of another level."""
    inventory, tokens = with_cache_sites(inspect_model(folder), 1, 1, "packed"), _tokens()
    walker, fresh = (Engine(folder, inventory) for _ in range(2))
    levels, plan = [DENSE, *(Level(bits, coding="cache") for bits in (2, 4, 8))], walker.dense_plan
    generator = torch.Generator().manual_seed(1)
    for _ in range(25):
        cache, level = (int(torch.randint(n, (), generator=generator)) for n in (len(inventory.caches), len(levels)))
        plan = plan.replace({inventory.caches[cache].name: levels[level]})
        (found,) = walker.logits(plan, no_level, [tokens], [("text", 0, 2)])
        (expected,) = fresh.logits(Plan(plan.levels), no_level, [tokens])
        assert torch.equal(found, expected)


def test_beams_and_crops_move_all_that_is_held() -> None:
    """As transformers asks for it."""
    keys, values = (torch.randn(2, 1, 6, 8, generator=torch.Generator().manual_seed(i)) for i in range(2))
    layer = PackedLayer(parse_level("kv4"), None)
    layer.update(keys, values)
    layer.reorder_cache(torch.tensor([1, 0]))
    layer.crop(-2)
    new = torch.zeros(2, 1, 1, 8)
    found = layer.update(new, new)
    assert torch.equal(found[0], torch.cat([rounded(keys, 4).flip(0)[:, :, :4], new], 2))
    assert torch.equal(found[1], torch.cat([values.flip(0)[:, :, :4], new], 2))
    assert layer.get_seq_length() == 5

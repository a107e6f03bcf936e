"""Causal language models: blocks in one list, judged by the next token at every position.

Shape legend: B sequences, T tokens, P scored positions, V vocabulary.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from space.errors import ModelError
from workers.families.block_stacks import Stacks
from workers.families.dry_forward import dry_forward
from workers.families.family import Family
from workers.families.find_sites import find_sites

_TEXT = "input_ids"
_PROMPT_TOKENS = 8


def _matches(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    built = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return built is not None and (named is None or named.lower() == built.__name__.lower())


def what_text_passes(model: Any) -> Callable[[str], bool]:
    """Return what tells by name the modules of the language model inside a model and of its head from all others."""
    names = {module: name for name, module in model.named_modules()}
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    has_blocks = any(isinstance(module, nn.ModuleList) for module in decoder.modules())
    parts = [model]
    if has_blocks and decoder in names:
        parts = [decoder, *filter(None, (model.get_output_embeddings(), model.get_input_embeddings()))]
    inside = tuple(f"{names[part]}." if names[part] else "" for part in parts)
    towers = tuple(f"{n}." for m, n in names.items() if n and getattr(m, "main_input_name", _TEXT) != _TEXT)
    return lambda name: f"{name}.".startswith(inside) and not f"{name}.".startswith(towers)


def find_blocks(model: Any) -> Stacks:
    """Return the longest list of modules in what text passes that lies in no other list: its blocks.

    Raises:
        ModelError: there is none.

    """
    is_inside = what_text_passes(model)
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and is_inside(n)}
    outer = {n: m for n, m in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    blocks = {n: m for n, m in outer.items() if not isinstance(m[0], nn.Linear)}
    if not blocks:
        raise ModelError(f"{type(model).__name__} has no list of transformer blocks; it cannot be searched yet.")
    return (max(blocks.items(), key=lambda named: len(named[1])),)


def _loss(logits_btv: Tensor, tokens_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of every position but the last, and the tokens that follow there."""
    return logits_btv[:, :-1], tokens_bt[:, 1:]


def _answers(output: Any) -> Tensor:
    logits: Tensor = output.logits
    return logits


def _sample(model: Any, ids_bt: Tensor, cache: Any) -> tuple[Tensor, Any]:
    ids = ids_bt[:, -1:] if cache is not None else ids_bt
    output = model(input_ids=ids, past_key_values=cache, use_cache=True)
    return output.logits[:, -1], output.past_key_values


def generation_problems(model: Any, given: Mapping[str, Tensor], new_tokens: int = 1) -> dict[str, list[str]]:
    """Return why a model cannot generate tokens behind what it is given; nothing where it can."""
    has_two_stacks = getattr(model.config, "is_encoder_decoder", False)  # whose answer stands alone
    options = {"max_new_tokens": new_tokens, "do_sample": False, "num_beams": 1, "num_return_sequences": 1}
    options |= {} if has_two_stacks else {"pad_token_id": 0}
    try:
        made = model.generate(**given, **options)
    except Exception as error:  # noqa: BLE001 (whatever keeps users from generating)
        return {"generate": [(str(error).splitlines() or [""])[0] or type(error).__name__]}
    is_longer = has_two_stacks or made.shape[1] == given[_TEXT].shape[1] + new_tokens
    return {} if is_longer else {"generate": ["it makes no token"]}


def _problems(model: Any, tokens_bt: Tensor) -> dict[str, list[str]]:
    return generation_problems(model, {_TEXT: tokens_bt[:, :_PROMPT_TOKENS]})


CAUSAL_DECODER = Family(
    name="causal-decoder",
    loader="AutoModelForCausalLM",
    matches=_matches,
    searched=what_text_passes,
    sites=find_sites,
    stages=find_blocks,
    head=lambda model: model.get_output_embeddings(),
    inputs=lambda tokens: {"input_ids": tokens, "use_cache": False},
    answers=_answers,
    loss=_loss,
    cache=dry_forward,
    sample=_sample,
    problems=_problems,
)

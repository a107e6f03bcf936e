"""Causal language models: blocks of one class in one list, judged by the next token at every position.

Shape legend: B sequences, T tokens, P scored positions, V vocabulary.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from space.errors import ModelError
from space.inventory import ModuleInfo
from workers.families.dry_forward import dry_forward
from workers.families.family import Family
from workers.models.headers import StoredTensor
from workers.models.ties import tied_names


def _matches(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    built = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return built is not None and (named is None or named.lower() == built.__name__.lower())


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the longest list of equal-typed modules, the transformer blocks, and its name.

    Raises:
        ModelError: there is none.

    """
    lists = [
        (n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len({type(b) for b in m}) == 1
    ]
    if not lists:
        raise ModelError(f"{type(model).__name__} has no list of equal transformer blocks; it cannot be searched yet.")
    return max(lists, key=lambda named: len(named[1]))


def _sites(folder: Path, model: nn.Module, stored: Mapping[str, StoredTensor], blocks: str) -> list[ModuleInfo]:
    """Return linear and embedding modules in forward order, modules that share a stored weight once.

    Subclasses are left alone: their forward has rules of its own (scaled or shifted embeddings) that a packed module
    would not keep.
    """
    tied = tied_names(model)
    for copy, owner in tied.items():
        if type(model.get_submodule(owner)) is nn.Linear:
            raise ModelError(f"{folder}: {copy} and {owner} share one weight; only a head may, with its embedding.")
    found = []
    for name, module in model.named_modules():
        weight = stored.get(f"{name}.weight")
        if weight is None or name in tied or type(module) not in (nn.Linear, nn.Embedding):
            continue
        inside = name.removeprefix(f"{blocks}.").partition(".")[0] if name.startswith(f"{blocks}.") else ""
        found.append(
            ModuleInfo(
                name=name,
                kind="embedding" if isinstance(module, nn.Embedding) else "linear",
                weight=weight.info,
                block=int(inside) if inside else None,
                tied=tuple(copy for copy, original in tied.items() if original == name),
            )
        )
    return found


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


def _problems(model: Any, token_ids: Tensor) -> dict[str, list[str]]:
    """Return why a model cannot generate one token after (1, T) others; nothing where it can."""
    try:
        made = model.generate(
            token_ids, max_new_tokens=1, do_sample=False, num_beams=1, num_return_sequences=1, pad_token_id=0
        )
    except Exception as error:  # noqa: BLE001 (whatever keeps users from generating)
        return {"generate": [(str(error).splitlines() or [""])[0] or type(error).__name__]}
    return {} if made.shape[1] == token_ids.shape[1] + 1 else {"generate": ["it makes no token"]}


CAUSAL_DECODER = Family(
    name="causal-decoder",
    loader="AutoModelForCausalLM",
    matches=_matches,
    sites=_sites,
    stages=find_blocks,
    head=lambda model: model.get_output_embeddings(),
    inputs=lambda tokens: {"input_ids": tokens, "use_cache": False},
    answers=_answers,
    loss=_loss,
    cache=dry_forward,
    sample=_sample,
    problems=_problems,
)

"""What calibration sees of experts: the inputs of each, how many there were, and more tokens for those with few.

Routers send few tokens to some experts. Those that saw fewer than a stack's matrices have columns are given other
tokens of the text until they have so many: the inputs of these calls count, what comes out is thrown away, so that the
block's own output stays what it is. An expert apart that has too few all the same is rounded by the mean of its stack
for the rest. Shape legend: T tokens, K experts chosen for a token, E experts, I in_features.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median_low
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from space.inventory import Inventory, ModuleInfo
from space.results.expert_tokens import ExpertTokens
from workers.kernels.followed_weight import Told
from workers.run.watched_weights import SitesOf

_STACKED, _ARGUMENTS = 3, 3
COUNTS = "experts"
"""of a block's file of statistics, the metadata that tells what its experts saw"""


class ExpertInputs:
    """Sorts the inputs of watched weights by site, and counts tokens by expert.

    Attributes:
        counts: parameter of a stack -> for each expert, the tokens that were sent to it, and those it was given beside.

    """

    def __init__(self, watched: Sequence[ModuleInfo], add: Callable[[str, Tensor], None]) -> None:
        """Take the sites whose parameters are watched, and what takes a site's name and (..., I) inputs."""
        self._add, self._is_beside, self._is_heard = add, 0, True
        self._starving = frozenset[int]()  # of the module that is given more now
        self._names, self._sites = SitesOf(watched), {m.parameter: m for m in watched}
        self.counts: dict[str, list[list[int]]] = {
            name: [[0, 0] for _ in range(m.site.shape[0])]
            for name, m in self._sites.items()
            if m.site is not None and m.site.num_experts is not None
        }

    def told(self, parameter: str) -> Told:
        """Return what hears of the products of a watched parameter."""
        columns, counts = self._sites[parameter].in_features, self.counts.get(parameter)

        def add(inputs: Tensor, _output: Tensor, expert: int | None) -> None:
            if not self._is_heard or inputs.shape[-1] != columns:  # else it is no product with the rows of the weight
                return
            for index, rows in _by_expert(inputs, expert, len(counts or ())):
                if self._is_beside and index is not None and index not in self._starving:
                    continue
                for name in self._names.names(parameter, index):
                    self._add(name, rows)
                if counts is not None and index is not None:
                    counts[index][self._is_beside] += len(rows)

        return add

    def starved(self) -> dict[str, list[int]]:
        """Return the module of a stack -> the experts that have seen fewer tokens than there are columns."""
        found: dict[str, set[int]] = {}
        for name, counts in self.counts.items():
            few = {e for e, seen in enumerate(counts) if sum(seen) < self._sites[name].in_features}
            found.setdefault(name.rpartition(".")[0], set()).update(few)
        return {owner: sorted(few) for owner, few in found.items() if few}

    @contextmanager
    def giving_more(self, modules: Mapping[str, nn.Module]) -> Iterator[None]:
        """Give experts that saw too few further tokens of every forward while the context lasts; hear nothing else."""
        owners = self.starved()
        hooks = [modules[owner].register_forward_hook(self._more(owner), with_kwargs=True) for owner in owners]
        self._is_heard = False
        try:
            yield
        finally:
            self._is_heard = True
            for hook in hooks:
                hook.remove()

    def _more(self, owner: str) -> Any:
        def give(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
            experts, missing = self.starved().get(owner), self._missing(owner)
            call = None if experts is None else _sent_to((*args, *kwargs.values()), experts, missing)
            if call is None:
                return
            self._is_heard, self._is_beside, self._starving = True, 1, frozenset(experts or ())
            try:
                module.forward(*call)
            finally:
                self._is_heard, self._is_beside = False, 0

        return give

    def _missing(self, owner: str) -> int:
        inside = {name: counts for name, counts in self.counts.items() if name.rpartition(".")[0] == owner}
        least = {name: min(map(sum, counts)) for name, counts in inside.items()}
        return max(self._sites[name].in_features - seen for name, seen in least.items())

    def fill(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return sums of x xᵀ with those of experts apart that saw too few filled up, by the mean of their stack.

        Args:
            sums: of all sites that were called.

        """
        found = dict(sums)
        for parameter, counts in self.counts.items():
            names, columns = self._names.names(parameter, None), self._sites[parameter].in_features
            known = [sums[name] for name in names if name in sums]
            total = sum(map(sum, counts))
            if len(names) == 1 or not total:
                continue
            mean = torch.stack(known).sum(0) / total
            for name, seen in zip(names, map(sum, counts), strict=True):
                if seen < columns:
                    found[name] = sums.get(name, torch.zeros_like(mean)) + (columns - seen) * mean
        return found

    def metadata(self) -> dict[str, str]:
        """Return what a file of statistics tells of them."""
        return {COUNTS: json.dumps(self.counts)} if self.counts else {}


def _by_expert(inputs: Tensor, expert: int | None, num_experts: int) -> Iterator[tuple[int | None, Tensor]]:
    """Yield (expert, its (T, I) inputs) of a product with one, or with all at once, where others' rows are zero.

    Inputs of what is no stack come out as they are.
    """
    if expert is not None:
        yield expert, inputs.flatten(0, -2)
    elif inputs.ndim == _STACKED and len(inputs) == num_experts:
        for index, rows in enumerate(inputs):
            yield index, rows[rows.any(-1)]
    else:
        yield None, inputs


def _sent_to(arguments: tuple[Any, ...], experts: Sequence[int], count: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return a call of experts with some of its tokens sent to all of those named; None: it is no such call.

    Args:
        arguments: as transformers calls experts: (T, I) hidden states, (T, K) experts of each token and their weights.
        experts: which shall see more.
        count: tokens, at most.

    """
    is_known = len(arguments) == _ARGUMENTS and all(isinstance(value, Tensor) for value in arguments)
    if not is_known:
        return None
    hidden, chosen, weights = arguments
    if hidden.ndim != 2 or chosen.shape != weights.shape or chosen.is_floating_point() or len(chosen) != len(hidden):  # noqa: PLR2004
        return None
    if len(experts) == 1 and chosen.shape[1] > 1:  # some models' code wants several, as their tokens have
        experts = [*experts, int(experts[0] == 0)]
    some = hidden[:: max(1, len(hidden) // count)][:count]
    sent = torch.tensor(experts, dtype=chosen.dtype, device=chosen.device).expand(len(some), -1)
    return some, sent, torch.ones(sent.shape, dtype=weights.dtype, device=weights.device)


def read_expert_tokens(paths: Sequence[Any], inventory: Inventory) -> ExpertTokens | None:
    """Return what the experts of all blocks saw, from files of statistics; None: nothing was counted."""
    columns = {m.parameter: m.in_features for m in inventory.modules}
    routed, beside, few = list[int](), 0, 0
    for path in paths:
        with safe_open(path, framework="pt") as file:
            counted = json.loads((file.metadata() or {}).get(COUNTS, "{}"))
        owners = {name.rpartition(".")[0]: (name, counts) for name, counts in reversed(counted.items())}
        for name, counts in owners.values():
            routed += [sent for sent, _ in counts]
            beside += sum(more > 0 for _, more in counts)
            few += sum(sent + more < columns[name] for sent, more in counts)
    return ExpertTokens(min(routed), median_low(routed), len(routed), beside, few) if routed else None

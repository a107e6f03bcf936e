"""The check of an export: nothing is believed that the files do not show."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from space.cost import module_bytes
from space.errors import VerificationError
from space.inventory import Inventory
from space.plan import Plan
from space.results.front import bootstrap_interval
from tightfit.export.source import Written
from tightfit.export.targets.writer_table import RULES, WRITERS

_TIMEOUT_SECONDS = 3600
_LOOK_SECONDS = 1.0
# nats, and part of the KL, by which it may differ:
_SAME_DEVICE = 1e-6, 1e-4  # the same arithmetic on the same bytes; only another machine's rounding is allowed for
_OTHER_DEVICE = 2e-3, 0.02  # float32 and bfloat16
_OTHER_RUNTIME = 5e-5, 0.03  # nats, or part of the KL: its kernels sum in another order, attention is in 16 bits
_LOGIT_TOLERANCE = 1e-4
_FAST_DIFFERENCE, _FAST_KL = 1e-3, 1e-6  # of the range of logits, and nats


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised.

    Attributes:
        weight_budget: bytes that must not be exceeded.
        kl_divergence: recorded on held-out text; None: not measured.
        is_same_device: whether it was measured on what the export is verified on.

    """

    weight_budget: int
    kl_divergence: float | None
    is_same_device: bool = True

    @property
    def kl_tolerance(self) -> float:
        """Return by how much the KL of the export may differ, in nats."""
        floor, part = _SAME_DEVICE if self.is_same_device else _OTHER_DEVICE
        return floor + part * (self.kl_divergence or 0.0)


@dataclass(frozen=True, slots=True)
class Verified:
    """What the reload measured on held-out text: KL divergence in nats per token, with its 95 % interval.

    `runtime` is the target's own runtime and the KL of its logits, where that is installed. `fast` is the largest
    difference that fast kernels make to logits, as a share of their range, and the KL to them; None without.
    """

    kl_divergence: float
    kl_divergence_ci95: tuple[float, float]
    perplexity: float
    logit_difference: float
    runtime: tuple[str, float] | None = None
    fast: tuple[float, float] | None = None


def verify_export(
    written: Written,
    inventory: Inventory,
    plan: Plan,
    target: str,
    promise: Promise,
    request: Mapping[str, Any],
    look: Callable[[], None] = lambda: None,
) -> Verified:
    """Check the files and reload them in a fresh process.

    Args:
        written: the export.
        inventory: of the dense model.
        plan: what was to be written.
        target: its container.
        promise: what must hold.
        request: where the searched model, its levels and its text are (see `workers.runtime.reload`).
        look: called about every second; what it raises ends the fresh process.

    Raises:
        VerificationError: names everything that differs; the files are left as they are.

    """
    differences = [*_size_differences(written, promise), *_module_differences(written.folder, inventory, plan, target)]
    differences += RULES[target](written.folder, inventory, plan) if target in RULES else []
    try:
        asked = {**request, "folder": str(written.folder.resolve()), "plan": plan.to_json(), "target": target}
        answer = _reload(asked, look)
        differences += _reload_differences(answer, promise)
    except VerificationError as error:
        differences.append(str(error))
    if differences:
        raise VerificationError(f"{written.folder}: the export is not what was promised: " + "; ".join(differences))
    interval = bootstrap_interval(answer["sequence_kl"])
    runtime = answer.get("runtime") and (answer["runtime"][0], answer["runtime"][1])
    fast = answer.get("fast") and (answer["fast"][0], answer["fast"][1])
    return Verified(answer["kl_divergence"], interval, answer["perplexity"], answer["logit_difference"], runtime, fast)


def _reload_differences(answer: Mapping[str, Any], promise: Promise) -> list[str]:
    """Compare what a fresh process found; a difference that is not a number is one."""
    found = [f"{kind}: {', '.join(names[:3])}" for kind, names in answer["problems"].items()]
    if not answer["logit_difference"] <= _LOGIT_TOLERANCE:
        found.append(f"logits differ from the searched model by {answer['logit_difference']:.3g}")
    share, nats = answer.get("fast") or (0.0, 0.0)
    if not (share <= _FAST_DIFFERENCE and nats <= _FAST_KL):
        found.append(f"fast kernels change logits by {share:.3g} of their range, a KL divergence of {nats:.3g}")
    kl, recorded = answer["kl_divergence"], promise.kl_divergence
    if recorded is not None and not abs(kl - recorded) <= promise.kl_tolerance:
        found.append(f"KL divergence is {kl:.6g}, recorded is {recorded:.6g}")
    if answer.get("runtime"):
        name, measured = answer["runtime"]
        floor, part = _OTHER_RUNTIME
        if not abs(measured - kl) <= max(floor, part * kl):
            found.append(f"in {name} the KL divergence is {measured:.6g}, here it is {kl:.6g}")
    return found


def _size_differences(written: Written, promise: Promise) -> list[str]:
    found = []
    if written.size_bytes != written.predicted_bytes:
        found.append(f"the tensors take {written.size_bytes:,} bytes, predicted were {written.predicted_bytes:,}")
    if written.size_bytes > promise.weight_budget:
        found.append(f"the tensors take {written.size_bytes:,} bytes, the budget is {promise.weight_budget:,}")
    return found


def _module_differences(folder: Path, inventory: Inventory, plan: Plan, target: str) -> list[str]:
    """Compare the stored bytes of every module with its level."""
    stored, wrong = WRITERS[target].stored_bytes(folder, inventory, plan), []
    for module in inventory.modules:
        level, found = plan[module.name], stored.get(module.name)
        expected = module_bytes(module, level, target)
        if found != expected:
            wrong.append(f"{module.name} takes {found} bytes, {level} has {expected}")
    return wrong


def _reload(request: Mapping[str, Any], look: Callable[[], None]) -> dict[str, Any]:
    """Ask a fresh process; `-P` keeps it from importing anything out of the folder where it is started."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "workers.runtime.reload"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            out, told = _answer(process, json.dumps(request), look)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        last = "\n".join(told.strip().splitlines()[-3:])
        raise VerificationError(f"cannot be loaded again: {last}")
    answer: dict[str, Any] = json.loads(out)
    return answer


def _answer(process: "subprocess.Popen[str]", asked: str, look: Callable[[], None]) -> tuple[str, str]:
    """Wait for what a process prints, looking out meanwhile."""
    deadline, rest = time.monotonic() + _TIMEOUT_SECONDS, {"input": asked}
    while True:
        try:
            return process.communicate(timeout=_LOOK_SECONDS, **rest)
        except subprocess.TimeoutExpired as error:
            if time.monotonic() >= deadline:
                raise VerificationError(f"reloading took more than {_TIMEOUT_SECONDS} seconds") from error
            rest = {}  # it has that
            look()

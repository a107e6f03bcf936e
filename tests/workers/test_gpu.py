"""All that runs on a GPU: on this machine's, and on a pretended one, which computes on the CPU.

The pretended one refuses to mix devices as a real one does. Tests on a real one have the mark `gpu`.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from workers.devices import device_here

KINDS = ("tied", "phi", "opt")
Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Give the name of a GPU."""
    name: str = request.param
    if name == "cuda" and device_here() != "cuda":
        pytest.skip("no GPU that torch can use")
    return name


@pytest.fixture(scope="module")
def found(device: str, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Give what a process found on it."""
    command = [sys.executable, "-m", "tests.workers.on_gpu", device, str(tmp_path_factory.mktemp("gpu")), *KINDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: Found = json.loads(done.stdout)
    return answer


def test_levels_are_as_good_as_on_the_cpu(found: Found, device: str) -> None:
    """Of every kind: rounding differs in the last bit there, which moves few values and no error."""
    for level, (here, there, differing) in found["levels"].items():
        assert there == pytest.approx(here, rel=0.02 if device == "cuda" else 1e-6), level
        assert differing <= (0.1 if device == "cuda" else 0.0), level


def test_building_takes_no_more_memory_than_is_reckoned_with(found: Found, device: str) -> None:
    """By which it is decided whether a GPU has room for it; what is pretended has no memory of its own."""
    if device == "cuda":
        assert 0 < found["memory"]["peak"] <= found["memory"]["reckoned"]
    else:
        assert found["memory"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_loses_as_much_as_on_the_cpu(found: Found, kind: str) -> None:
    """Up to bfloat16: calibration, levels, the dense model's answers and the plan are all computed there.

    Statistics of 16 bits choose other codes of a random model's levels, which moves its KL by up to a tenth.
    """
    assert found[kind]["gpu"] == pytest.approx(found[kind]["cpu"], rel=0.2)
    assert found[kind]["gpu"] != found[kind]["cpu"]
    assert found[kind]["sampled"] == [6, 32]


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_built_where_there_is_room(found: Found, device: str, kind: str) -> None:
    """On the GPU, or on the CPU where it is too small; a model that it cannot hold is run block by block, same bits."""
    assert found[kind]["built_on"] == [device]
    assert found[kind]["built_on_small"] == ["cpu"]
    assert found[kind]["streamed"] == pytest.approx(found[kind]["gpu"], rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_the_searched_model_there_too(found: Found, kind: str) -> None:
    """The same logits to the bit, the recorded KL, and it generates, with its cache as without."""
    assert found[kind]["problems"] == {}
    assert found[kind]["logit_difference"] == 0.0
    assert found[kind]["exported"] == pytest.approx(found[kind]["gpu"], rel=1e-9)
    assert found[kind]["cached"] < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_refit_runs_there(found: Found, kind: str) -> None:
    """Other levels, of a loss of the same size: the text is far too short to gain by it."""
    assert found[kind]["refitted"] != found[kind]["gpu"]
    assert found[kind]["refitted"] == pytest.approx(found[kind]["gpu"], rel=0.5)


def test_a_whole_job_runs_there(found: Found, device: str) -> None:
    """It says on what it ran, and its front falls from the smallest size to the largest."""
    job = found["job"]
    assert (job["state"], job["device"], job["measured_on"]) == ("DONE", device, "held_out")
    losses = [kl for _, kl in job["points"]]
    assert len(losses) >= 3
    assert losses == sorted(losses, reverse=True)


def test_the_pretended_gpu_refuses_what_a_real_one_does() -> None:
    """Operands on two devices, and arrays of what has not come back; scalars and indices may stay on the CPU."""
    code = """
import torch
from tests.workers.pretended_gpu import NAME, register
register()
there, here = torch.arange(4.0, device=NAME), torch.ones(4)
refused = 0
for wrong in (lambda: there + here, lambda: torch.cat([there, here]), lambda: there.mul_(here),
              lambda: torch.where(here > 0, there, there), lambda: there.index_select(0, torch.tensor([1])),
              lambda: there.numpy()):
    try:
        wrong()
    except (RuntimeError, TypeError):
        refused += 1
there[1:3] += torch.tensor(2.0)
there[torch.tensor([0])] = 7.0
print(refused, there.cpu().tolist(), (there * 2).device, here.to(NAME).device, there.sum().item())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=200)
    assert done.stdout.split("\n")[0] == "6 [7.0, 3.0, 4.0, 3.0] pretended:0 pretended:0 17.0"

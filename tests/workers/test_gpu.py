"""All that runs on a GPU, on a pretended one: it refuses to mix devices as a real one does, and computes on the CPU."""

import json
import subprocess
import sys
from typing import Any

import pytest

KINDS = ("tied", "phi", "opt")
Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Give what a process with a pretended GPU found."""
    command = [sys.executable, "-m", "tests.workers.on_pretended_gpu", str(tmp_path_factory.mktemp("gpu")), *KINDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: Found = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_loses_as_much_as_on_the_cpu(found: Found, kind: str) -> None:
    """Up to bfloat16: calibration, levels, the dense model's answers and the plan are all computed there."""
    assert found[kind]["gpu"] == pytest.approx(found[kind]["cpu"], rel=0.06)
    assert found[kind]["gpu"] != found[kind]["cpu"]
    assert found[kind]["sampled"] == [6, 32]


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_built_where_there_is_room(found: Found, kind: str) -> None:
    """On the GPU, or on the CPU where it is too small; a model that it cannot hold is run block by block, same bits."""
    assert found[kind]["built_on"] == ["pretended"]
    assert found[kind]["built_on_small"] == ["cpu"]
    assert found[kind]["streamed"] == pytest.approx(found[kind]["gpu"], rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_the_searched_model_there_too(found: Found, kind: str) -> None:
    """The same logits to the bit, the recorded KL, and it generates."""
    assert found[kind]["problems"] == {}
    assert found[kind]["logit_difference"] == 0.0
    assert found[kind]["exported"] == pytest.approx(found[kind]["gpu"], rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refit_runs_there(found: Found, kind: str) -> None:
    """Other levels, of a loss of the same size: the text is far too short to gain by it."""
    assert found[kind]["refitted"] != found[kind]["gpu"]
    assert found[kind]["refitted"] == pytest.approx(found[kind]["gpu"], rel=0.5)


def test_a_whole_job_runs_there(found: Found) -> None:
    """It says on what it ran, and its front falls from the smallest size to the largest."""
    job = found["job"]
    assert (job["state"], job["device"], job["measured_on"]) == ("DONE", "pretended", "held_out")
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

"""How fast exports run: each target in its own runtime, in a fresh process, with what a user is told of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from typer.testing import CliRunner

from space.errors import UsageError
from space.level import DENSE, parse_level
from space.plan import Plan
from space.targets.target_table import is_legal
from tests.export.decoder_models import DecoderBenches
from tests.export.exports import write_export
from tests.workers.tiny_models import Bench
from tightfit.cli.app import app
from tightfit.export.checkpoint import write_papers
from tightfit.export.speed import SpeedWish, speed
from workers.runtime.speed.timing import Course, measured

_LEVELS = {"packed": "b4-g32", "gguf": "q8_0", "onnx": "b4-g32", "mlx": "b4-g32-z", "vllm": "b4-g32"}


def _export(bench: Bench, target: str, folder: Path) -> Path:
    level = parse_level(_LEVELS[target])
    modules = bench.workspace.inventory.modules
    plan = Plan.of({m.name: level if is_legal(m, level, target) else DENSE for m in modules})
    bench.build(plan, target)
    export = write_export(bench, plan, target, folder)
    write_papers(export.written, {"format": target, "plan": plan.to_json()}, "")
    return folder


@pytest.mark.parametrize(
    ("target", "runtime"),
    [("packed", "transformers"), ("gguf", "llama.cpp"), ("onnx", "ONNX Runtime"), ("mlx", "mlx-lm")],
)
def test_each_in_its_own_runtime(benches: DecoderBenches, tmp_path: Path, target: str, runtime: str) -> None:
    """Rates are positive, the median lies between the slowest and the fastest run."""
    if target == "gguf":
        pytest.importorskip("xllamacpp")
    folder = _export(benches("qwen2"), target, tmp_path / "out")
    found = speed(SpeedWish(str(folder), num_prompt=12, num_tokens=20, threads=1, runs=2))
    assert found["runtime"].startswith(runtime)
    assert found["format"] == target
    for rate in (found["prefill"], found["decode"]):
        assert 0 < rate["slowest"] <= rate["tokens_per_second"] <= rate["fastest"]


def test_a_model_of_its_own_is_measured_dense(benches: DecoderBenches) -> None:
    """What an export is compared with, as a user types it."""
    folder = benches("qwen2").folder
    arguments = ["speed", str(folder), "--prompt", "8", "--tokens", "4", "--threads", "1", "--runs", "1"]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0
    assert "one token at a time" in told.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert found["format"] is None
    assert found["machine"]["threads"] == 1


def test_what_runs_elsewhere_is_said(benches: DecoderBenches, tmp_path: Path) -> None:
    """A GPU for vLLM; a broken paper and a broken file are one sentence each."""
    folder = _export(benches("qwen3"), "vllm", tmp_path / "out")
    with pytest.raises(UsageError, match="vllm bench latency"):
        speed(SpeedWish(str(folder)))
    (folder / "compression.json").write_text("{")
    with pytest.raises(UsageError, match="is no JSON"):
        speed(SpeedWish(str(folder)))
    transformers.BertConfig(architectures=["BertModel"]).save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="bert makes no text"):
        speed(SpeedWish(str(tmp_path / "encoder"), runs=1))


def test_rates_are_tokens_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run does not count; of the others the median, the slowest and the fastest."""
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    class Runner:
        """Takes seconds that are known."""

        def __init__(self) -> None:
            self.taken = iter([(99.0, 99.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0)])
            self.after: Callable[[], float] = lambda: 0.0

        def read(self) -> None:
            first, second = next(self.taken)
            clock[0] += first
            self.after = lambda: second

        def go_on(self) -> None:
            clock[0] += self.after()

    course = Course(Path(), Plan(()), (1, 2, 3, 4), 8, threads=1, runs=3)
    found = measured("it", Runner(), course)
    assert (found.prefill.tokens_per_second, found.prefill.slowest, found.prefill.fastest) == (2.0, 1.0, 4.0)
    assert (found.decode.tokens_per_second, found.decode.slowest, found.decode.fastest) == (2.0, 1.0, 4.0)
    assert course.following == (1, 2, 3, 4, 1, 2, 3, 4)

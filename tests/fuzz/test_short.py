"""The short form of the fuzzer: 150 inputs in children of a process that has imported everything, 20 in fresh ones."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fuzz.campaign import Fresh, Nursery, made, make_models, run_all

NUM_INPUTS, NUM_FRESH = 150, 20


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give tiny models to damage."""
    return make_models(tmp_path_factory.mktemp("fuzz-models"))


def _faults(
    seeds: Sequence[int], models: list[Path], runners: Sequence[Nursery | Fresh], kinds: Sequence[str] = ()
) -> list[str]:
    try:
        return [verdict.told() for verdict in run_all(seeds, models, runners, kinds) if verdict.fault]
    finally:
        for runner in runners:
            runner.close()


@pytest.mark.timeout(1200)
def test_odd_inputs(models: list[Path]) -> None:
    """Each ends soon, in bounds, with a documented exit code and one sentence."""
    found = _faults(range(NUM_INPUTS), models, [Nursery(models) for _ in range(os.cpu_count() or 2)][:2])
    assert not found, "\n".join(found)


@pytest.mark.timeout(1200)
def test_odd_inputs_to_new_processes(models: list[Path]) -> None:
    """The same where nothing is warm: commands and places, which need few heavy imports."""
    seeds = range(NUM_INPUTS, NUM_INPUTS + NUM_FRESH)
    found = _faults(seeds, models, [Fresh(), Fresh()], ("commands", "places"))
    assert not found, "\n".join(found)


def test_an_input_is_made_of_its_seed(models: list[Path]) -> None:
    """What failed can be run again."""
    for seed in range(30):
        with made(seed, models) as one, made(seed, models) as other:
            assert [a.replace(str(one.folder), "") for a in one.arguments] == [
                a.replace(str(other.folder), "") for a in other.arguments
            ]
            files = [p.relative_to(one.folder) for p in one.folder.rglob("*") if p.is_file() and not p.is_symlink()]
            small = [name for name in files if (one.folder / name).stat().st_size < 10**8]
            assert all((one.folder / name).read_bytes() == (other.folder / name).read_bytes() for name in small)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("raise RuntimeError('x')", "a traceback"),
        ("import time; time.sleep(99)", "too much time"),
        ("x = b'1' * 10**9; import time; time.sleep(2)", "too much memory"),
        ("import sys; print('two'); print('lines', file=sys.stderr); sys.exit(2)", "no sentence"),
        ("import sys; sys.exit(9)", "exit code 9"),
    ],
)
def test_faults_are_seen(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, fault: str
) -> None:
    """A program with a fault of each kind is found out."""
    from tests.fuzz import campaign, nursery
    from tests.fuzz.inputs import Input

    monkeypatch.setattr(nursery, "MAX_SECONDS", 6.0)
    monkeypatch.setattr(nursery, "MAX_BYTES", nursery._resident(os.getpid()) + 3 * 10**8)
    monkeypatch.setattr(nursery, "_command_line", lambda: exec(code))  # noqa: S102 (our own)
    given = Input(0, "commands", tmp_path, ["status"], {})
    ended = nursery._run({"folder": str(tmp_path), "arguments": ["status"], "environment": {}})
    assert campaign.judged(given, ended).fault.startswith(fault)

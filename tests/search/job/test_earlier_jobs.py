"""Warm starts: a second job on the same model and text begins with all that is known, and before any worker."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.job import job_device, text_and_levels
from space.errors import UsageError
from space.level import Level
from space.plan import Plan
from space.results.document import FrontDocument
from storage.records import JobState, Trial, TrialState
from tests.search.house import House
from tests.search.scripted import ScriptedExecutor, measure, prepared, records, spec
from workers.tasks import BuildLevels, LevelRecord, Workspace


class WarmHouse(House):
    """A house that remembers text and levels on disk, as real ones do."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.cache_folder = folder
        self.tokens = folder / "tokens"
        self.tokens.touch()
        self.built: set[BuildLevels] = set()
        self.fronts: list[tuple[int, FrontDocument | None]] = []

    def known(self, workspace: Workspace, tasks: Sequence[BuildLevels]) -> list[Sequence[LevelRecord] | None]:
        """Return what is remembered of each task."""
        return [records(task) if task in self.built else None for task in tasks]

    def executor(self, **values: Any) -> ScriptedExecutor:
        return ScriptedExecutor(tokens_path=str(self.tokens), **values)

    def search(self, job_id: str, executor: ScriptedExecutor | None = None, **values: Any) -> ScriptedExecutor:
        """Submit and run a job to its good end."""
        executor = executor or self.executor()
        self.submit(job_id, **values)
        assert self.run(executor, job_id).state is JobState.DONE
        self.built |= set(executor.built)
        return executor


@pytest.fixture
def warm(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WarmHouse:
    """Give a house where job "one" has ended."""
    warm = WarmHouse(tmp_path)
    monkeypatch.setattr(text_and_levels, "read_records", warm.known)
    warm.search("one")
    return warm


def plans(trials: Sequence[Trial], origin: str) -> set[str]:
    return {t.plan.digest for t in trials if t.origin == origin}


def test_front_before_any_worker(warm: WarmHouse) -> None:
    """Another budget: levels, probes and measurements are known, and a judged front is there before workers start."""
    seen: list[FrontDocument] = []

    def look(text: str) -> None:
        if text.startswith("starting"):
            seen.append(warm.document("two"))

    warm.notes.phase = lambda job, text: look(text)  # type: ignore[method-assign]
    executor = warm.search("two", budget="3bpw")
    assert executor.built == []
    assert [t for t in executor.searched if t.sketch or t.num_sequences is not None] == []
    assert 0 < len(executor.searched) <= 16
    (first,) = seen
    assert (first.state, first.measured_on) == ("RUNNING", "held_out")
    assert first.recommended is not None
    assert first.cost.token_forwards == first.cost.trials == 0
    final = warm.document("two")
    assert final.recommended is not None
    assert final.recommended.kl_divergence <= first.recommended.kl_divergence
    assert final.hypervolume >= first.hypervolume
    assert final.cost.trials == len(executor.searched)
    assert final.cost.token_forwards == sum(measure(task).token_forwards for task in executor.evaluated)


def test_known_trials(warm: WarmHouse) -> None:
    """They are complete, free, and in the order uniform plans, probes, others; each plan as it was measured."""
    warm.search("two", budget="3bpw")
    first, second = warm.store.list_trials("one"), warm.store.list_trials("two")
    known = [t for t in second if t.sampler_state.known]
    assert known == list(second[: len(known)])
    for origin in ("uniform", "heuristic", "sensitivity"):
        assert plans(known, origin) == plans(first, origin)
    others = {t.plan.digest for t in first if t.origin in ("knapsack", "exchange", "refine")}
    assert plans(known, "known") == others - plans(first, "uniform")
    measured = {(t.plan.digest, t.sampler_state.num_sequences): t for t in first}
    for trial in known:
        twin = measured[trial.plan.digest, trial.sampler_state.num_sequences]
        assert (trial.measurement, trial.size_bytes) == (twin.measurement and twin.measurement.free, twin.size_bytes)
        assert trial.sampler_state.base == twin.sampler_state.base


def test_points_on_all_text_are_known(warm: WarmHouse) -> None:
    """An operating point was measured as a plan first; a second job knows it as a probe all the same."""
    warm.search("first", budget="3bpw", max_trials=300, refine=True)
    whole = {
        t.plan.digest
        for t in warm.store.list_trials("first")
        if t.sampler_state.base == t.plan.to_json() and t.sampler_state.num_sequences is None
    }
    assert whole
    warm.search("second", budget="2.9bpw")
    known = [t for t in warm.store.list_trials("second") if t.sampler_state.base == t.plan.to_json()]
    lengths = {t.plan.digest: len(t.measurement.sequence_kl) for t in known if t.measurement is not None}
    assert {lengths.get(digest) for digest in whole} == {32}


def test_results_do_not_depend_on_the_workers(warm: WarmHouse) -> None:
    """Whoever is faster, in the first job and in the second."""
    warm.search("two", budget="3bpw")
    other = WarmHouse(warm.cache_folder)
    text_and_levels.read_records = other.known
    other.search("one", other.executor(order="random"))
    other.search("two", other.executor(order="last"), budget="3bpw")
    assert other.store.list_trials("two") == warm.store.list_trials("two")


def test_refine_searches_on(warm: WarmHouse) -> None:
    """With --refine the whole search goes on from what is known: no module is probed on the whole model again."""
    executor = warm.search("two", budget="3bpw", refine=True, max_trials=150)
    assert executor.built == []
    wide = prepared(spec()).space.uniform_plan(Level(8, 64))
    probes = [t.plan for t in executor.searched if t.sketch]
    assert [p for p in probes if sum(p[name] != level for name, level in wide.levels) <= 1] == []
    assert {"known", "refine"} <= {t.origin for t in warm.store.list_trials("two")}


def test_advice_where_nobody_looked(warm: WarmHouse) -> None:
    """A budget far from every plan whose neighbours were probed is told to search on; near ones are not."""
    warm.search("probed", refine=True)
    near = prepared(spec()).budget_bytes
    far = int(near * 0.6)
    for budget, is_far in ((near, False), (int(near * 0.9), False), (far, True)):
        warm.search(f"at-{budget}", budget=f"{budget}B")
        assert (warm.document(f"at-{budget}").advice is not None) is is_far


def test_refine_probes_where_nobody_looked(warm: WarmHouse) -> None:
    """The first operating point that it adds is at its budget; then the same budget has an answer without advice."""
    warm.search("probed", refine=True)
    far = int(prepared(spec()).budget_bytes * 0.6)
    warm.search("far", budget=f"{far}B")
    warm.search("refined", budget=f"{far}B", refine=True, max_trials=200)
    states = [t.sampler_state for t in warm.store.list_trials("refined") if t.origin == "sensitivity"]
    base = next(Plan.from_json(state.base) for state in states if state.base and not state.known)
    assert 0.85 * far < prepared(spec()).space.weight_bytes(base) <= far
    first, second = warm.document("far").recommended, warm.document("refined").recommended
    assert first is not None and second is not None  # noqa: PT018
    assert second.kl_divergence <= first.kl_divergence
    assert warm.document("refined").advice is None
    warm.search("again", budget=f"{far}B")
    assert warm.document("again").advice is None


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_resume_of_a_warm_job(warm: WarmHouse, share: float) -> None:
    """It ends as if undisturbed and measures nothing twice."""
    undisturbed = WarmHouse(warm.cache_folder)
    text_and_levels.read_records = undisturbed.known
    undisturbed.search("one")
    count = round(share * (len(undisturbed.search("two", budget="3bpw").evaluated) - 1))
    text_and_levels.read_records = warm.known

    def cancel(number: int) -> None:
        if number == count:
            warm.store.request_cancel("two")

    warm.submit("two", budget="3bpw")
    before, after = warm.executor(on_evaluate=cancel), warm.executor()
    assert warm.run(before, "two").state is JobState.CANCELLED
    assert warm.document("two").measured_on == "held_out"
    assert warm.resume(after, "two").state is JobState.DONE
    keys = [(t.plan.digest, t.split, t.first_sequence) for t in (*before.evaluated, *after.evaluated)]
    assert len(keys) == len(set(keys))
    expected, found = undisturbed.document("two"), warm.document("two")
    assert (found.front, found.uniform, found.hypervolume) == (expected.front, expected.uniform, expected.hypervolume)
    assert found.cost.token_forwards == expected.cost.token_forwards


@pytest.mark.parametrize(
    ("values", "digests"),
    [
        ({"seed": 1}, ("d", "e", "f")),  # the seed draws other text
        ({"bits": (2, 3, 4)}, ("a", "b", "c")),
        ({"pins": (("down_proj", "b7-g16"),)}, ("a", "b", "c")),
        ({"target": "compressed-tensors", "pins": (("embed", "dense"),), "budget": "6bpw"}, ("a", "b", "c")),
        ({"sampler": "random"}, ("a", "b", "c")),
    ],
)
def test_another_question_is_not_warm(warm: WarmHouse, values: dict[str, Any], digests: tuple[str, ...]) -> None:
    """Another text, menu, pin or target has its own search; a baseline sampler is no use if it is told the answers."""
    executor = warm.search("two", warm.executor(digests=digests), **values)
    assert [t for t in warm.store.list_trials("two") if t.sampler_state.known] == []
    if values.get("sampler") is None:
        assert executor.evaluated


@pytest.mark.parametrize("bits", [(3, 4, 8), (2, 3, 8), (2, 4)])
def test_a_narrower_menu_takes_what_it_can(warm: WarmHouse, bits: tuple[int, ...]) -> None:
    """Probes around plans that it cannot make say nothing to it, and it is warm where its own were made."""
    warm.search("first", max_trials=200)
    warm.search("two", bits=bits, budget="4.2bpw" if 8 in bits else "3.5bpw")
    assert any(t.sampler_state.known for t in warm.store.list_trials("two")) == (8 in bits)
    assert all(t.state is TrialState.COMPLETE for t in warm.store.list_trials("two"))


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("pin", [("embed", "b4-g64"), ("layers.0.q_proj", "b4-g64")])
def test_a_pin_amid_what_is_known(warm: WarmHouse, pin: tuple[str, str], *, refine: bool) -> None:
    """The plan of one module's probe is a plan of that pin's space, and what it was a probe of is not."""
    warm.search("first", max_trials=200)
    warm.search("two", pins=(pin,))
    warm.search("three", pins=(pin,), budget="3.5bpw", refine=refine)
    assert any(t.sampler_state.known for t in warm.store.list_trials("three"))


def test_what_cpus_measured_is_nothing_to_gpus(warm: WarmHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job on GPUs measures everything anew, in a folder of its own, and does not go on without them."""
    with monkeypatch.context() as there:
        there.setattr(job_device, "device_here", lambda: "cuda")
        executor = warm.search("two")
        assert executor.evaluated
        assert not any(t.sampler_state.known for t in warm.store.list_trials("two"))
        warm.store.resume_job("one")  # began on CPUs: stays there
        assert warm.run(warm.executor(), "one").state is JobState.DONE
    one, two = (warm.store.get_job(name).facts for name in ("one", "two"))
    assert (one.device, two.device) == ("cpu", "cuda")
    assert one.cache_folder != two.cache_folder
    with pytest.raises(UsageError, match="began on GPUs"):
        warm.resume(warm.executor(), "two")
    assert warm.store.get_job("two").state is JobState.FAILED


def test_unfinished_search_is_not_enough(warm: WarmHouse) -> None:
    """A search that was never judged may have missed anything: the second job searches, and pays only for the rest."""
    other = WarmHouse(warm.cache_folder)
    text_and_levels.read_records = other.known
    other.submit("one")
    before = other.executor(on_evaluate=lambda number: other.store.request_cancel("one") if number == 30 else None)
    other.run(before)
    after = other.search("two")
    assert len(before.searched) + len(after.searched) == len(
        {(t.plan.digest, t.first_sequence, t.num_sequences) for t in (*before.searched, *after.searched)}
    )
    assert not any(t.sampler_state.known for t in other.store.list_trials("two"))


def test_deleted_text_is_made_again(warm: WarmHouse) -> None:
    """Without its tokens the job asks the workers for text first, and is warm all the same."""
    warm.tokens.unlink()
    warm.notes.phases.clear()
    warm.search("two", budget="3bpw")
    order = [text.split()[0] for text in warm.notes.phases]
    assert order.index("sampling") < order.index("starting") < order.index("calibrating") < order.index("a")
    assert any(t.sampler_state.known for t in warm.store.list_trials("two"))


def test_known_trials_do_not_count_as_tried(warm: WarmHouse) -> None:
    """The limit of trials is for new ones."""
    executor = warm.search("two", budget="3bpw", max_trials=3)
    assert len(executor.searched) <= 3
    assert warm.document("two").cost.trials <= 3


def test_plans_outside_the_space_stay_out(warm: WarmHouse) -> None:
    """What another menu measured on the same text is no trial of this one."""
    warm.search("two", budget="5bpw", bits=(2, 3, 4, 6, 8))
    warm.search("three", budget="3bpw")
    levels = prepared(spec()).space.levels
    for trial in warm.store.list_trials("three"):
        assert all(level in levels[name] for name, level in trial.plan.levels)
        assert replace(trial).plan.mapping.keys() == levels.keys()

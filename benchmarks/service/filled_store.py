"""A database as a year of searches leaves it: jobs that are done, each with trials, events, facts and a front."""

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import insert

from space.level import Level
from space.measurement import Measurement
from space.plan import Plan
from space.results.document import DensePoint, FrontDocument, FrontPoint, SearchCost
from space.spec import make_spec
from storage.events import EventKind, trial_news
from storage.job_facts import JobFacts, KeptLosses
from storage.job_summary import Recommended, Summary
from storage.migrations.tables import EventRow, TrialRow
from storage.records import JobState, Trial, TrialState
from storage.sql.sql_rows import trial_values
from storage.sql.sql_store import SqlStore

MEASURED = Measurement(0.02, 9.0, tuple(0.02 for _ in range(32)), 32 * 255, 8160.0, 1.0)
POINT = FrontPoint("p0", 0, 3_000_000, 3.25, 0.02, (0.019, 0.021), 9.0, recommended=True)
LOSSES = {f"module {index}": {f"b{bits}-g64": 0.5**bits for bits in range(2, 9)} for index in range(400)}
NUM_POINTS = 30
_AT_ONCE = 250
USERS = ("ada", "bob", "cyd", "dan")


def job_name(number: int) -> str:
    """Return the id of the job of a number."""
    return f"j{number:06x}"


def fill(store: SqlStore, num_jobs: int, num_trials: int, num_modules: int = 8) -> None:
    """Write jobs as finished searches leave them, one model and user after the other; the last one runs still."""
    plan = Plan.of({f"model.layers.{index}.mlp.up_proj": Level(4, 64) for index in range(num_modules)})
    values = trial_values(Trial("", 0, plan, "knapsack", TrialState.COMPLETE, 3_000_000, MEASURED))
    told = trial_news(0, TrialState.COMPLETE, "knapsack", 3_000_000, MEASURED, None).facts
    for number in range(num_jobs):
        job_id, model = job_name(number), f"org/model-{number % 20}"
        spec = make_spec(model=model, budget="3.25bpw", calibration="text.jsonl")
        store.create_job(job_id, spec, USERS[number % len(USERS)])
        store.set_job_state(job_id, JobState.RUNNING)
        phase, facts = "judging 30 plans on held-out text", JobFacts(model=KeptLosses(LOSSES))
        store.update_job(job_id, phase=phase, facts=facts, document=_document(job_id, model, num_trials))
        store.put_summary(job_id, _summary(num_trials))
        if number < num_jobs - 1:
            store.set_job_state(job_id, JobState.DONE)
        last = store.list_events(job_id)[-1].seq
        trials = [values | {"job_id": job_id, "number": index} for index in range(num_trials)]
        event = {"job_id": job_id, "kind": EventKind.TRIAL, "at": datetime.now(UTC)}
        events = [event | {"seq": last + 1 + n, "facts": told | {"trial": n}} for n in range(num_trials)]
        for start in range(0, num_trials, _AT_ONCE):
            with store._session(write=True) as session:  # noqa: SLF001 (as many at once as no search writes)
                session.execute(insert(TrialRow), trials[start : start + _AT_ONCE])
                session.execute(insert(EventRow), events[start : start + _AT_ONCE])


def _document(job_id: str, model: str, num_trials: int) -> FrontDocument:
    points = tuple(replace(POINT, point=f"p{n}", size_bytes=POINT.size_bytes + n) for n in range(NUM_POINTS))
    cost, dense = SearchCost(1e6, num_trials, 600.0), DensePoint(10**7, 8.0)
    return FrontDocument(
        job_id, "DONE", model, "packed", 3_000_000, 0, dense, (), points, 0.8, reference_point=(1e7, 0.5), cost=cost
    )


def _summary(num_trials: int) -> Summary:
    return Summary(
        datetime.now(UTC), {"COMPLETE": num_trials}, 600.0, 1.0, 0.0, 0.8, 0.02,
        measured_on="held_out", num_points=NUM_POINTS, recommended=Recommended("p0", 3_000_000, 0.02),
    )  # fmt: skip

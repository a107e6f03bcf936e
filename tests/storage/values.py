"""Records that the storage tests share, and how to make any other one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from space.codings.coding import BITS
from space.errors import StateError
from space.inventory import CacheLayer, Inventory, ModuleInfo, TensorInfo
from space.level import DENSE, Level
from space.measurement import Measurement
from space.plan import Plan
from space.results.document import DensePoint, FrontDocument, FrontPoint, SearchCost, UniformPoint
from space.results.price import MarginalPrice
from space.spec import JobSpec, make_spec
from storage.job_facts import Deaths, JobFacts, KeptLosses, KeptText
from storage.job_summary import Recommended, Summary
from storage.point_tasks import NewTask, TaskKind
from storage.records import JobState, Trial, TrialState
from storage.sampler_state import SamplerState
from storage.store import Store

PLAN = Plan.of({"model.layers.1.q_proj": Level(4, 64), "model.layers.0.q_proj": DENSE})
MEASURED = Measurement(0.25, 7.5, (0.2, 0.3), 1024, 2048.0, 1.5)
DOCUMENT = FrontDocument(
    job="one",
    state="DONE",
    model="org/model",
    target="packed",
    budget_bytes=10**10,
    seed=0,
    dense=DensePoint(10**11, 6.5),
    uniform=(UniformPoint("b4-g64", 10**10, 0.1, (0.09, 0.11), 7.0),),
    front=(FrontPoint("p1", 3, 10**10, 4.25, 0.05, (0.04, 0.06), 6.75, recommended=True),),
    hypervolume=0.5,
    reference_point=(1e10, 0.5),
    cost=SearchCost(1e9, 20, 60.5),
)
SUMMARY = Summary(
    updated_at=datetime(2026, 11, 26, 12, tzinfo=UTC),
    trials={"COMPLETE": 2, "FAILED": 1, "WAITING": 1, "STOPPED": 1},
    elapsed_seconds=60.5,
    share_done=0.25,
    seconds_left=181.5,
    hypervolume=0.5,
    best_kl_divergence=0.05,
    marginal_price=MarginalPrice(10**8, 0.002),
    measured_on="search",
    num_points=1,
    recommended=Recommended("p1", 10**10, 0.05),
)
ASKED = NewTask(TaskKind.EXPORT, "one", "p1", 3, "/out", {"target": "packed", "refit": None}, user="ann")
PATH_TO: dict[JobState, tuple[JobState, ...]] = {
    JobState.QUEUED: (),
    JobState.RUNNING: (JobState.RUNNING,),
    JobState.PAUSED: (JobState.PAUSED,),
    JobState.DONE: (JobState.RUNNING, JobState.DONE),
    JobState.FAILED: (JobState.RUNNING, JobState.FAILED),
    JobState.CANCELLED: (JobState.CANCELLED,),
}
FINISHED = [JobState.DONE, JobState.FAILED, JobState.CANCELLED]
ENDS = [TrialState.COMPLETE, TrialState.FAILED, TrialState.STOPPED]

floats = st.floats(allow_nan=False, allow_infinity=False)
levels = st.just(DENSE) | st.builds(
    Level,
    st.sampled_from(BITS),
    st.none() | st.integers(1, 4096),
    st.sampled_from((0.0, 0.25, 0.5, 0.75)),
    rank=st.integers(0, 512),
)
plans = st.dictionaries(st.text(max_size=20), levels, max_size=8).map(Plan.of)
measurements = st.builds(
    Measurement, floats, floats, st.lists(floats, max_size=5).map(tuple), st.integers(0, 2**62), floats, floats
)
json_objects = st.dictionaries(
    st.text(max_size=9),
    st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
texts, counts = st.text(max_size=9), st.integers(0, 2**62)
tensors = st.builds(TensorInfo, texts, st.lists(counts, max_size=3).map(tuple), texts)
inventories = st.builds(
    Inventory,
    modules=st.lists(st.builds(ModuleInfo, texts, st.just("linear"), tensors, st.none() | counts), max_size=3).map(
        tuple
    ),
    others=st.lists(tensors, max_size=3).map(tuple),
    key_value=st.none() | st.lists(st.builds(CacheLayer, counts), max_size=3).map(tuple),
    num_blocks=counts,
)
job_facts = st.builds(
    JobFacts,
    model_digest=st.none() | texts,
    inventory=st.none() | inventories,
    nodes=st.none() | st.dictionaries(texts, texts, max_size=3),
    tokens=st.none() | st.builds(KeptText, texts, texts, st.tuples(texts, texts, texts)),
    dense_perplexity=st.none() | floats,
    budget_bytes=st.none() | counts,
    warm=st.none() | st.booleans(),
    spent=st.none() | st.dictionaries(texts, floats, max_size=3),
    lost_on_held_out=st.none() | st.dictionaries(texts, counts, max_size=3),
    model=st.none() | st.dictionaries(texts, st.dictionaries(levels.map(str), floats, max_size=3)).map(KeptLosses),
    deaths=st.none() | st.builds(Deaths, st.tuples(texts, counts, counts), counts, counts),
)
sampler_states = st.builds(
    SamplerState,
    num_sequences=st.none() | counts,
    base=st.none() | plans.map(Plan.to_json),
    batch=st.none() | counts,
    known=st.booleans(),
    system_attrs=st.none() | json_objects,
)
specs = st.builds(
    make_spec,
    model=st.text(max_size=20),
    budget=st.sampled_from(("60%", "4GiB", "3.25bpw")),
    revision=st.none() | st.text(max_size=9),
    bits=st.lists(st.sampled_from(BITS), min_size=1).map(tuple),
    group_sizes=st.lists(st.none() | st.integers(1, 512), min_size=1, max_size=3).map(tuple),
    sparsities=st.lists(st.sampled_from((0.0, 0.5, "2:4")), min_size=1, max_size=3).map(tuple),
    pins=st.lists(st.tuples(st.text(max_size=9), levels.map(str)), max_size=3).map(tuple),
    seed=st.integers(0, 2**63 - 1),
)
properties = settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


def spec(**values: Any) -> JobSpec:
    """Return a request."""
    return make_spec(**{"model": "org/model", "budget": "60%", **values})


def trial(number: int, state: TrialState = TrialState.WAITING, **values: Any) -> Trial:
    """Return a trial of job "one"."""
    return replace(Trial("one", number, PLAN, "knapsack", state, 10**10), **values)


def only(store: Store) -> Trial:
    """Return the one trial of job "one"."""
    (found,) = store.list_trials("one")
    return found


def num_winners(attempt: Callable[[], object], num_threads: int = 8) -> int:
    """Return how many of several threads that start together succeed; the others must meet a StateError."""
    barrier = Barrier(num_threads)

    def try_it(_: int) -> bool:
        barrier.wait(timeout=60)
        try:
            attempt()
        except StateError:
            return False
        return True

    with ThreadPoolExecutor(num_threads) as pool:
        return sum(pool.map(try_it, range(num_threads)))

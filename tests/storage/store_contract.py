"""The contract of a store as tests: every implementation inherits them and gives its own `store` fixture."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

import pytest
from hypothesis import given

from space.errors import NotFoundError
from space.level import DENSE
from space.measurement import Measurement
from space.plan import Plan
from space.spec import JobSpec
from storage.job_facts import JobFacts
from storage.records import Asking, JobState, Known, Trial, TrialState
from storage.sampler_state import SamplerState
from storage.store import Store
from tests.storage.store_contract_events import EventContract
from tests.storage.store_contract_jobs import JobContract
from tests.storage.store_contract_leases import LeaseContract
from tests.storage.store_contract_lists import ListContract
from tests.storage.store_contract_people import PeopleContract
from tests.storage.store_contract_tasks import TaskContract
from tests.storage.store_contract_trials import TrialContract
from tests.storage.values import (
    ASKED,
    MEASURED,
    PLAN,
    SUMMARY,
    job_facts,
    measurements,
    only,
    plans,
    properties,
    sampler_states,
    spec,
    specs,
    trial,
)


class StoreContract(
    JobContract, ListContract, LeaseContract, TrialContract, EventContract, TaskContract, PeopleContract
):
    """One test per behaviour and per error of each verb; here those of measurements and those of all verbs."""

    def test_measurement_is_found_under_its_key_only(self, store: Store) -> None:
        """Another plan or another evaluation is another question."""
        store.put_measurement(Known(PLAN, "e" * 64, MEASURED))
        assert list(store.find_measurements([(PLAN, "e" * 64)])) == [MEASURED]
        assert list(store.find_measurements([(PLAN, "f" * 64)])) == [None]
        assert list(store.find_measurements([(PLAN.replace({PLAN.levels[0][0]: DENSE}), "e" * 64)])) == [None]

    def test_first_measurement_is_kept(self, store: Store) -> None:
        """The same question has the same answer for ever."""
        store.put_measurement(Known(PLAN, "e" * 64, MEASURED))
        store.put_measurement(Known(PLAN, "e" * 64, replace(MEASURED, seconds=99.0)))
        assert list(store.find_measurements([(PLAN, "e" * 64)])) == [MEASURED]

    def test_order_of_modules_is_no_new_question(self, store: Store) -> None:
        """A plan is named by its content."""
        store.put_measurement(Known(PLAN, "e" * 64, MEASURED))
        assert list(store.find_measurements([(Plan(PLAN.levels[::-1]), "e" * 64)])) == [MEASURED]

    def test_known_measurements_are_listed_with_their_questions(self, store: Store) -> None:
        """All of the asked evaluations, by evaluation and plan, each with its plan and who asked; nothing of others."""
        other = PLAN.replace({PLAN.levels[0][0]: DENSE})
        store.put_measurement(Known(PLAN, "f" * 64, MEASURED))
        store.put_measurement(Known(PLAN, "e" * 64, MEASURED, Asking("sensitivity", base=other)))
        store.put_measurement(Known(other, "e" * 64, replace(MEASURED, seconds=9.0), Asking("uniform")))
        store.put_measurement(Known(other, "d" * 64, MEASURED, Asking("refine")))
        first = [
            Known(PLAN, "e" * 64, MEASURED, Asking("sensitivity", base=other)),
            Known(other, "e" * 64, replace(MEASURED, seconds=9.0), Asking("uniform")),
        ]
        listed = store.list_measurements(["f" * 64, "e" * 64])
        expected = [*sorted(first, key=lambda known: known.plan.digest), Known(PLAN, "f" * 64, MEASURED)]
        assert list(listed) == expected
        assert [k.plan.levels for k in listed] == [k.plan.levels for k in expected]

    def test_nothing_is_known_of_other_evaluations(self, store: Store) -> None:
        """Neither of one that nobody made nor of none; the first asker is kept."""
        store.put_measurement(Known(PLAN, "e" * 64, MEASURED, Asking("uniform")))
        store.put_measurement(Known(PLAN, "e" * 64, MEASURED, Asking("refine")))
        assert list(store.list_measurements(["d" * 64])) == list(store.list_measurements([])) == []
        assert [k.asking for k in store.list_measurements(["e" * 64])] == [Asking("uniform")]

    @pytest.mark.parametrize(
        "verb",
        [
            lambda store: store.get_job("none"),
            lambda store: store.overview("none"),
            lambda store: store.put_summary("none", SUMMARY),
            lambda store: store.set_job_state("none", JobState.RUNNING),
            lambda store: store.update_job("none", phase="x"),
            lambda store: store.update_job("none"),
            lambda store: store.request_cancel("none"),
            lambda store: store.create_trials([replace(trial(0), job_id="none")]),
            lambda store: store.finish_trial("none", 0, TrialState.COMPLETE),
            lambda store: store.set_held_out("none", 0, MEASURED),
            lambda store: store.list_trials("none"),
            lambda store: store.request_pause("none"),
            lambda store: store.resume_job("none"),
            lambda store: store.claim_job("me", "none"),
            lambda store: store.list_events("none"),
            lambda store: store.list_tasks("none"),
            lambda store: store.create_task("t1", replace(ASKED, job_id="none")),
        ],
    )
    @pytest.mark.usefixtures("job")
    def test_every_verb_names_an_unknown_job(self, store: Store, verb: Callable[[Store], object]) -> None:
        """NotFoundError says which job, and which ones there are."""
        with pytest.raises(NotFoundError, match="no job 'none'; the newest are one"):
            verb(store)

    @pytest.mark.parametrize(
        "verb",
        [
            lambda store: store.finish_trial("one", 7, TrialState.COMPLETE),
            lambda store: store.set_held_out("one", 7, MEASURED),
        ],
    )
    @pytest.mark.usefixtures("job")
    def test_verbs_of_a_trial_name_an_unknown_one(self, store: Store, verb: Callable[[Store], object]) -> None:
        """NotFoundError says which trial of which job."""
        with pytest.raises(NotFoundError, match="Job one has no trial 7"):
            verb(store)

    @pytest.mark.usefixtures("job")
    def test_values_go_in_and_out_by_copy(self, store: Store) -> None:
        """What a caller does to a dict before or after changes no record."""
        attrs: dict[str, Any] = {"a": {"b": 1}}
        spent = {"pass": 1.0}
        store.update_job("one", facts=JobFacts(spent=spent))
        store.create_trials([trial(0, sampler_state=SamplerState(system_attrs=attrs))])
        attrs["a"]["b"], spent["pass"] = 2, 2.0
        cast("dict[str, float]", store.get_job("one").facts.spent)["pass"] = 3.0
        cast("Any", only(store).sampler_state.system_attrs)["a"]["b"] = 4
        assert store.get_job("one").facts == JobFacts(spent={"pass": 1.0})
        assert only(store).sampler_state == SamplerState(system_attrs={"a": {"b": 1}})

    @properties
    @given(plan=plans, measurement=measurements, state=sampler_states)
    def test_any_trial_comes_back_equal(
        self, store: Store, plan: Plan, measurement: Measurement, state: SamplerState
    ) -> None:
        """Plans keep their order, numbers every bit, and JSON its shape."""
        job_id = uuid4().hex
        store.create_job(job_id, spec())
        kept = Trial(job_id, 0, plan, "tpe", TrialState.COMPLETE, 2**62, measurement, sampler_state=state)
        store.create_trials([kept])
        assert store.list_trials(job_id) == [kept]

    @properties
    @given(request_=specs, facts=job_facts)
    def test_any_request_comes_back_equal(self, store: Store, request_: JobSpec, facts: JobFacts) -> None:
        """A request is read as it was written, with its digest."""
        job_id = uuid4().hex
        store.create_job(job_id, request_)
        store.update_job(job_id, facts=facts)
        found = store.get_job(job_id)
        assert (found.spec, found.spec.digest, found.facts) == (request_, request_.digest, facts)

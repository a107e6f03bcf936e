"""Why the points of a job's front are what they are: the job's records joined with `search.decide.explain`."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

from search.decide.additive_model import AdditiveModel
from search.decide.explain import explain, losses_from_facts
from space.errors import NotFoundError
from space.inventory import Inventory
from space.plan import Plan
from space.results.document import FrontDocument, FrontPoint
from space.results.explanation import Explanation
from storage.records import Job
from tightfit.export.select import select_point


def explain_point(
    job: Job, document: FrontDocument, inventory: Inventory, plans: Mapping[str, Plan], point_name: str | None
) -> Explanation:
    """Explain one point; see `Service.explain`."""
    point = select_point(document, inventory, point_name)
    model = losses_from_facts(job.facts)
    if model is None:
        raise NotFoundError(
            f"Job {job.job_id} kept no model of its losses, so nothing explains its plans; a job keeps one as it "
            "searches, and only with the sampler `front`."
        )
    return _explain(job, inventory, model, plans, point)


def explain_front(
    job: Job, document: FrontDocument, inventory: Inventory, plans: Mapping[str, Plan]
) -> dict[str, Explanation]:
    """Return point -> explanation, as far as the job's model of losses reaches; without one it is empty."""
    model = losses_from_facts(job.facts)
    return {} if model is None else dict(_explained(job, document, inventory, plans, model))


def _explained(
    job: Job, document: FrontDocument, inventory: Inventory, plans: Mapping[str, Plan], model: AdditiveModel
) -> Iterator[tuple[str, Explanation]]:
    for point in document.front:
        with suppress(NotFoundError):
            yield point.point, _explain(job, inventory, model, plans, point)


def _explain(
    job: Job, inventory: Inventory, model: AdditiveModel, plans: Mapping[str, Plan], point: FrontPoint
) -> Explanation:
    return explain(inventory, job.spec.target, model, plans[point.point], point.point, point.kl_divergence)

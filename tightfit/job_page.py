"""The report of a job: its records joined with `tightfit.export.report`."""

from collections.abc import Sequence

from search.progress import progress_of
from space.document import FrontDocument
from space.inventory import Inventory
from storage.records import Job, Trial
from tightfit.config import Settings
from tightfit.explaining import explain_front
from tightfit.export.report import render_report
from tightfit.links import kept_link


def job_report(
    settings: Settings, job: Job, document: FrontDocument, inventory: Inventory, trials: Sequence[Trial]
) -> str:
    """Return a job's report: one self-contained HTML page."""
    by_number = {trial.number: trial.plan for trial in trials}
    plans = {point.point: by_number[point.trial] for point in document.front}
    notes = [note] if (note := job.facts.get("tokens", {}).get("note")) else []
    return render_report(
        document,
        plans,
        inventory,
        job.spec,
        notes,
        explain_front(job, document, inventory, plans),
        trials=trials,
        steps=progress_of(job, trials),
        home_option=settings.home_option,
        mlflow_link=kept_link(settings, job),
    )

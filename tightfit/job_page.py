"""The report of a job: its records joined with `tightfit.report.page`."""

from collections.abc import Sequence

from search.progress.front_progress import progress_of
from space.inventory import Inventory
from space.results.document import FrontDocument
from storage.records import Job, Trial
from tightfit.config import Settings
from tightfit.explaining import explain_front
from tightfit.links import kept_link
from tightfit.report.page import render_report


def job_report(
    settings: Settings, job: Job, document: FrontDocument, inventory: Inventory, trials: Sequence[Trial]
) -> str:
    """Return a job's report: one self-contained HTML page."""
    by_number = {trial.number: trial.plan for trial in trials}
    plans = {point.point: by_number[point.trial] for point in document.front}
    notes = [job.facts.tokens.note] if job.facts.tokens and job.facts.tokens.note else []
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

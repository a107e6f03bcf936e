"""The main job on the bundled model: search, front, export, proof, and where to look at it."""

import sys
from pathlib import Path

from space.errors import JobFailedError
from space.spec import JobSpec, make_spec
from storage.tracking.contract import has_mlflow
from storage.tracking.mlflow_server import start_server, wait_until_ready
from tightfit.cli.hints import command
from tightfit.cli.show import show_export, show_result
from tightfit.config import ANOTHER_HOME, load_settings
from tightfit.listen import TerminalListener
from tightfit.service import Service
from workers.whole_files import writing

DEMO_BUDGET = "3.25bpw"


def demo_spec() -> JobSpec:
    """Return the demo's request: the bundled model, text from the standard library, the size of 3 bits and scales."""
    return make_spec(
        model="bundled",
        budget=DEMO_BUDGET,
        calibration="python-stdlib",
        bits=(2, 3, 4, 6, 8, 16),
        num_samples=48,
        num_search_samples=24,
        num_held_out_samples=32,
        max_trials=264,
    )


def run_demo(home: Path | None) -> None:
    """Run the demo from submit to a verified export, and print where its front can be browsed."""
    service = Service(load_settings(home))
    folder = service.settings.home
    if service.settings.mlflow_uri is None and has_mlflow():
        with writing(folder / "mlflow", ANOTHER_HOME):
            start_server(folder, wait=False)  # takes seconds to come up; the search goes on meanwhile
    spec = demo_spec()
    print(f"Compressing {spec.model} to {spec.budget} with {spec.workers} workers.", file=sys.stderr)
    job = service.submit(spec)
    service.run(job.job_id, TerminalListener())
    document = service.front(job.job_id)
    show_result(document, home)
    best = document.recommended
    if best is None:
        raise JobFailedError(f"Job {job.job_id}: no measured plan fits {document.budget_bytes:,} bytes.")
    show_export(service.export(job.job_id, folder / "exports" / job.job_id, refit=False))
    again = command(f"export {job.job_id} --out DIR", home)
    print(f"To fit it once more, which takes a minute and is kept if its KL falls:\n  {again}")
    report = folder / "reports" / f"{job.job_id}.html"
    with writing(report, ANOTHER_HOME):
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(service.report(job.job_id), encoding="utf-8")
    print(f"Report: {report}")
    if has_mlflow():
        url = service.settings.mlflow_uri or wait_until_ready(folder).url
        print(f"MLflow: {service.sync_mlflow(job.job_id, url)}")

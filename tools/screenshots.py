"""Take the pictures of docs/: the Pareto view in MLflow and the report page of the newest job of a home.

python tools/screenshots.py --home .tightfit-demo
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from storage.tracking.mlflow_server import start_server
from tightfit.cli.overviews import newest_front
from tightfit.config import load_settings
from tightfit.places.at_home import AtHome
from tightfit.service import Service

DOCS = Path(__file__).resolve().parent.parent / "docs"
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


def take(page: Page, link: str, report: Path) -> None:
    """Write docs/pareto.png and docs/report.png."""
    page.set_default_timeout(120_000)
    page.goto(link)
    page.locator(".js-plotly-plot .scatterlayer .point, .js-plotly-plot .points path").first.wait_for()
    page.get_by_role("button", name="Close").first.click()  # MLflow's assistant panel
    page.wait_for_timeout(2000)
    page.screenshot(path=DOCS / "pareto.png")
    page.goto(report.as_uri())
    page.locator("svg").first.wait_for()
    page.screenshot(path=DOCS / "report.png")


def main() -> None:
    """Start what is needed and take both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    service = Service(load_settings(parser.parse_args().home))
    job = newest_front(AtHome(service).jobs()).overview
    link = service.sync_mlflow(job.job_id, start_server(service.settings.home).url)
    report = service.settings.home / "report-for-pictures.html"
    report.write_text(service.report(job.job_id), encoding="utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        take(browser.new_page(viewport={"width": 1400, "height": 900}), link, report)
        browser.close()
    report.unlink()


if __name__ == "__main__":
    main()

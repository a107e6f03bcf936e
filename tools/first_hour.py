"""Use a running service as somebody does who has read README alone; write docs/first-hour.md and its five pictures.

    tightfit serve --home HOME &
    python tools/first_hour.py --url http://127.0.0.1:8642 --home HOME

In a browser: a job is submitted with a preset, watched, and a point of its front chosen, tried and exported; then the
export is loaded in transformers, and the front looked at in MLflow. What was done and seen is printed and written.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from storage.tracking.mlflow_server import wait_until_ready

DOCS = Path(__file__).resolve().parents[1] / "docs"
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
HEAD = """# The first hour

A service used by somebody who has read README alone, in a browser: what was done and seen, with seconds since then.
Written by `python tools/first_hour.py`, which does it again.

"""
PATIENCE_MS, ANSWER_MS = 7_200_000, 900_000
LOAD = """
import tightfit.hf
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
tokens = tokenizer("def main", return_tensors="pt")
print(repr(tokenizer.decode(model.generate(**tokens, max_new_tokens=24, do_sample=False)[0])))
"""


class Transcript:
    """Prints what was done, with the time since the begin, and keeps it with the pictures taken on the way."""

    def __init__(self, folder: Path) -> None:
        """Begin now; pictures and the document go to a folder."""
        self._began, self._folder, self._lines = time.monotonic(), folder, list[str]()

    def tell(self, text: str) -> None:
        """Print a line."""
        line = f"{time.monotonic() - self._began:5.0f} s  {text}"
        self._lines += ["```", line, "```"]
        print(line, flush=True)

    def picture(self, page: Page, name: str, caption: str) -> None:
        """Take a picture of what is seen, once it is still."""
        page.wait_for_timeout(1500)
        path = self._folder / f"first-{name}.png"
        page.screenshot(path=path)
        with Image.open(path) as image:  # 256 colours do, in half the bytes
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        self._lines += ["", f"![{caption}](first-{name}.png)", ""]

    def write(self) -> None:
        """Write the document."""
        text = HEAD + "\n".join(self._lines).replace("```\n```\n", "") + "\n"
        (self._folder / "first-hour.md").write_text(text, encoding="utf-8")


def submit(page: Page, asked: argparse.Namespace, told: Transcript) -> str:
    """Fill in the form, submit it, and return the job's id."""
    page.goto(f"{asked.url}/#/new")
    page.fill("#field-model", asked.model)
    page.fill("#field-budget", "30%")
    page.select_option("#field-preset", asked.preset)
    page.fill("#field-calibration", asked.calibration)
    expect(page.locator("#inspection")).to_contain_text("30% of dense")
    told.tell("the form says: " + " ".join(page.locator("#inspection dl").first.inner_text().split()))
    told.picture(page, "submit", "The form of a new job")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/#/jobs/*")
    job = page.url.split("/#/jobs/")[1].split("/")[0]
    told.tell(f"submitted: job {job}")
    return job


def watch(page: Page, told: Transcript) -> None:
    """Wait for the first front, take its picture, and wait for the last one."""
    page.locator("#detail-title").wait_for()
    told.tell("a first front: " + " ".join(page.locator(".job-head").inner_text().split()))
    told.picture(page, "live", "A front that grows")
    expect(page.locator(".job-head .state")).to_have_text("done")
    page.wait_for_timeout(3000)
    told.tell("done: " + " ".join(page.locator(".job-head").inner_text().split()))
    page.evaluate("scrollTo(0, 0)")
    told.picture(page, "front", "The front of a job that is done")


def use(page: Page, told: Transcript) -> None:
    """Try the recommended point, and export it."""
    told.tell("chosen: " + page.locator("#detail-title").inner_text())
    page.fill("#prompt", "def read_file(path):")
    page.fill("#tokens", "48")
    page.locator("form.talk button.primary").click()
    for speed in page.locator(".answers small").all():  # each says its own once it has answered
        expect(speed).to_contain_text("48 tokens", timeout=ANSWER_MS)
    told.tell("both answered: " + " | ".join(page.locator(".answers small").all_inner_texts()))
    page.locator("form.talk").scroll_into_view_if_needed()
    told.picture(page, "try", "A point answers beside the dense model")
    page.get_by_role("button", name="Export p").first.click()
    line = page.locator(".tasks li").first
    expect(line).to_contain_text("verified: ", timeout=PATIENCE_MS)
    told.tell("exported: " + " ".join(line.inner_text().split()))


def load(home: Path, told: Transcript) -> None:
    """Load the newest export in transformers, in a fresh process."""
    folder = max((path.parent for path in home.glob("exports/**/config.json")), key=lambda path: path.stat().st_mtime)
    done = subprocess.run(  # noqa: S603 (our own interpreter)
        [sys.executable, "-c", LOAD.format(folder=str(folder))], capture_output=True, text=True, check=True
    )
    told.tell(f"transformers loads {folder.name} and goes on with: {done.stdout.strip()}")


def look_in_mlflow(page: Page, url: str, job: str, told: Transcript) -> None:
    """Follow the page's link to the front in MLflow."""
    page.goto(f"{url}/#/jobs/{job}")
    link = page.locator("a[href*=viewStateShareKey]").first
    link.wait_for()
    page.goto(str(link.get_attribute("href")))
    page.locator(".js-plotly-plot .scatterlayer .point, .js-plotly-plot .points path").first.wait_for()
    page.get_by_role("button", name="Close").first.click()  # MLflow's assistant panel
    told.tell(f"MLflow shows it at {page.url.partition('#')[2]}")
    told.picture(page, "mlflow", "The same front in MLflow")


def main() -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8642")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--calibration", default="python-stdlib")
    parser.add_argument("--folder", type=Path, default=DOCS, help="where the document and its pictures go")
    parser.add_argument("--job", help="look at this job, and submit none")
    asked = parser.parse_args()
    told = Transcript(asked.folder)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 1240})
        page.set_default_timeout(PATIENCE_MS)
        job = asked.job or submit(page, asked, told)
        page.goto(f"{asked.url}/#/jobs/{job}")
        if not asked.job:
            watch(page, told)
        page.locator("#detail-title").wait_for()
        use(page, told)
        load(asked.home, told)
        wait_until_ready(asked.home)
        look_in_mlflow(page, asked.url, job, told)
        browser.close()
    told.write()


if __name__ == "__main__":
    main()

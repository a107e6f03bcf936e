"""The MLflow page that shows one job's front as a scatter: a saved view, kept as a tag of the experiment.

MLflow reads `mlflow.sharedViewState.<key>` tags ("deflate;" + base64 of deflated JSON) and opens them by link. The tag
is not documented API (MLflow 3.17): tests/browser/test_pareto_view.py looks at the page itself.
"""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from space.parsing.addresses import without_password

TAG_PREFIX = "mlflow.sharedViewState."
KEY_PREFIX = "tightfit-"
SECTION_TITLE = "Pareto front"
MAX_VIEWS = 40
LOCAL_SERVER = "http://127.0.0.1:5000"
LOG_KL = "log10_kl_divergence"
PLAN_PARAMS = ("mean_bits", "kinds", "sparse_modules", "low_rank_modules")
_TRAINING = "workflowType=machine_learning"  # without it MLflow opens its pages for chat traces
_BLOB_PREFIX = "deflate;"
_MAX_RUNS_IN_CHART = 300
_CARDS = {"columns": 1, "cardHeight": 330}


def view_key(job_id: str) -> str:
    """Return the key of a job's view, as it stands in the link."""
    return KEY_PREFIX + job_id


def pareto_link(tracking_uri: str, experiment_id: str, job_id: str) -> str:
    """Return the address of a job's Pareto view; a database URI counts as served on port 5000 of this machine."""
    is_served = tracking_uri.startswith(("http://", "https://"))
    base = without_password(tracking_uri).rstrip("/") if is_served else LOCAL_SERVER
    return f"{base}/{pareto_route(experiment_id, job_id)}"


def pareto_route(experiment_id: str, job_id: str) -> str:
    """Return the address of a job's Pareto view as a link within MLflow's pages."""
    share_key = quote(view_key(job_id), safe="")
    query = f"viewStateShareKey={share_key}&compareRunsMode=CHART&{_TRAINING}"
    return f"#/experiments/{experiment_id}/runs?{query}"


def run_route(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Return the address of a run, or of one of its artifacts, as a link within MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}{artifact and f'/artifacts/{artifact}'}?{_TRAINING}"


def report_route(experiment_id: str, run_id: str, point: str) -> str:
    """Return the address of a run's report, opened at a point.

    MLflow shows it in a frame that sees nothing of the page's address but what stands before the `#`, as its referrer.
    """
    return f"?point={quote(point, safe='')}{run_route(experiment_id, run_id, 'report.html')}"


def run_filter(job_id: str) -> str:
    """Return the search filter for a job's points that can be drawn in every chart.

    MLflow lights up by index the run that the mouse is on: a run that one chart lacks, such as the dense model without
    a logarithm, would shift all others. With the parent among them it would fold the points away.
    """
    return f"tags.`tightfit.job` = '{job_id}' AND tags.`tightfit.kind` != 'job' AND metrics.`{LOG_KL}` > -1000"


def view_state(job_id: str) -> dict[str, Any]:
    """Return the state of the page: which runs, which charts, which columns."""
    return {
        "searchFilter": run_filter(job_id),
        "orderByKey": "metrics.`size_mib`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "compareRunCharts": [_scatter("front-log", LOG_KL), _scatter("front", "kl_divergence"), _parallel()],
        "compareRunSections": [
            {"uuid": "pareto", "name": SECTION_TITLE, "display": True, "isReordered": False} | _CARDS,
            {"uuid": "model", "name": "Model metrics", "display": False, "isReordered": False, "isGenerated": True},
        ],
        "isAccordionReordered": True,
        "selectedColumns": [
            *(f"metrics.`{name}`" for name in ("size_mib", "kl_divergence", "perplexity", "bits_per_weight")),
            *(f"params.`{name}`" for name in PLAN_PARAMS),
            "tags.`tightfit.kind`",
        ],
        "runsHiddenMode": "SHOWALL",
        "hideEmptyCharts": True,
        "useGroupedValuesInCharts": False,
    }


def encode_view(job_id: str, now_ms: int) -> str:
    """Return the tag value of a job's view."""
    text = json.dumps(view_state(job_id), sort_keys=True)
    blob = _BLOB_PREFIX + b64encode(zlib.compress(text.encode())).decode()
    name = f"{SECTION_TITLE}: {job_id}"
    return json.dumps({"name": name, "createdAt": now_ms, "updatedAt": now_ms, "state": blob})


def decode_view(value: str) -> dict[str, Any]:
    """Return the page state kept in a tag value."""
    blob = json.loads(value)["state"].removeprefix(_BLOB_PREFIX)
    state: dict[str, Any] = json.loads(zlib.decompress(b64decode(blob)))
    return state


def is_current(value: str | None, job_id: str) -> bool:
    """Tell whether a tag value already shows the job the way it should."""
    try:
        return value is not None and decode_view(value) == view_state(job_id)
    except (ValueError, KeyError, TypeError, zlib.error):
        return False


def views_to_remove(experiment_tags: Mapping[str, str], job_id: str) -> list[str]:
    """Return the tags of our oldest views that must go so that the job's view is among the 40 MLflow keeps."""
    own_tag = TAG_PREFIX + view_key(job_id)
    views = [tag for tag in experiment_tags if tag.startswith(TAG_PREFIX) and tag != own_tag]
    ours = sorted((t for t in views if t.startswith(TAG_PREFIX + KEY_PREFIX)), key=lambda t: _age(experiment_tags[t]))
    return ours[: max(0, len(views) + 1 - MAX_VIEWS)]


def _age(value: str) -> float:
    try:
        return float(json.loads(value)["updatedAt"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _scatter(uuid: str, metric: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": "size_mib", "type": "METRIC"}, "yaxis": {"key": metric, "type": "METRIC"}}
    return _card("SCATTER", uuid) | axes


def _parallel() -> dict[str, Any]:
    shown = {"selectedParams": list(PLAN_PARAMS), "selectedMetrics": ["size_mib", LOG_KL], "showAllRuns": False}
    return _card("PARALLEL", "plans") | shown


def _card(kind: str, uuid: str) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": uuid,
        "metricSectionId": "pareto",
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": _MAX_RUNS_IN_CHART,
    }

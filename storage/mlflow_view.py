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

from space.addresses import without_password

TAG_PREFIX = "mlflow.sharedViewState."
KEY_PREFIX = "tightfit-"
SECTION_TITLE = "Pareto front"
MAX_VIEWS = 40
LOCAL_SERVER = "http://127.0.0.1:5000"
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
    share_key = quote(view_key(job_id), safe="")
    query = f"viewStateShareKey={share_key}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"{base}/#/experiments/{experiment_id}/runs?{query}"


def run_filter(job_id: str) -> str:
    """Return the search filter for a job's points; with the parent in it MLflow would fold them away."""
    return f"tags.`tightfit.job` = '{job_id}' AND tags.`tightfit.kind` != 'job'"


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
        "compareRunCharts": [_scatter("front", "kl_divergence"), _scatter("front-log", "log10_kl_divergence")],
        "compareRunSections": [
            {"uuid": "pareto", "name": SECTION_TITLE, "display": True, "isReordered": False} | _CARDS,
            {"uuid": "model", "name": "Model metrics", "display": False, "isReordered": False, "isGenerated": True},
        ],
        "isAccordionReordered": True,
        "selectedColumns": [
            *(f"metrics.`{name}`" for name in ("size_mib", "kl_divergence", "perplexity", "bits_per_weight")),
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
    return {
        "type": "SCATTER",
        "uuid": uuid,
        "metricSectionId": "pareto",
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": _MAX_RUNS_IN_CHART,
        "xaxis": {"key": "size_mib", "type": "METRIC"},
        "yaxis": {"key": metric, "type": "METRIC"},
    }

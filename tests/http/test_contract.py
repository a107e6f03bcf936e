"""Version 1 of the REST service stays what it was: programs that use it today go on working.

`openapi_v1.json` is the document as it was published; `python -m tests.http.test_contract` writes it anew, after
something was added. What was there may not go, nor change its kind, nor may a request need more than before.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.jobs import open_service
from tests.http.conftest import World
from tightfit.http.api import create_app
from tightfit.http.callers import OpenGate

PUBLISHED = Path(__file__).with_name("openapi_v1.json")
_WORDS = ("description", "title", "summary", "examples", "default", "tags")


def facts(value: Any, place: str = "", shapes: Any = None) -> Iterator[tuple[str, Any]]:
    """Yield (place, value) of all that programs rely on in a document; words for people aside.

    A shape stands where it is used: what it is called in the document, no program sees.
    """
    if isinstance(value, dict) and shapes is None:
        shapes = value["components"]["schemas"]
        yield from facts(value["paths"], "/paths", shapes)
    elif isinstance(value, dict) and "$ref" in value:
        yield from facts(shapes[value["$ref"].rpartition("/")[2]], place, shapes)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in _WORDS or not isinstance(inner, str | list):
                yield from facts(inner, f"{place}/{name}", shapes)
    elif isinstance(value, list):
        for inner in value:
            if not isinstance(inner, dict | list):
                yield f"{place}/{inner}", True
                continue
            is_named = isinstance(inner, dict) and {"in", "name"} <= inner.keys()
            called = "{in}:{name}".format(**inner) if isinstance(inner, dict) and is_named else "[]"
            yield from facts(inner, f"{place}/{called}", shapes)
    else:
        yield place, value


def broken(before: Any, now: Any) -> list[str]:
    """Return what a program of before can no longer rely on."""
    old, new = _sorted(before), _sorted(now)
    gone = [f"{place}: {value} is gone" for place, value in old if (place, value) not in new]
    needs = [place for place, _ in new if place.rpartition("/")[0].endswith("/required")]
    more = [f"{place}: is needed now" for place in needs if (place, "True") not in old and _is_asked(place, old)]
    return gone + more


def _sorted(document: Any) -> list[tuple[str, str]]:
    return sorted({(place, str(value)) for place, value in facts(document)})


def _is_asked(place: str, before: list[tuple[str, str]]) -> bool:
    """Tell whether a place is of a request's body that was there."""
    body = place.rpartition("/required/")[0]
    return "/requestBody/" in body and any(old.startswith(f"{body}/") for old, _ in before)


def test_version_one_is_kept(world: World) -> None:
    """Nothing that was published has gone or changed."""
    now = world.client().app.openapi()  # type: ignore[attr-defined]
    assert broken(json.loads(PUBLISHED.read_text()), now) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["paths"].pop("/v1/jobs/{job}/front"), "/paths//v1/jobs/{job}/front"),
        (lambda d: d["paths"]["/v1/jobs"]["get"]["parameters"].pop(0), "query:state"),
        (
            lambda d: d["components"]["schemas"]["JobStatus"]["properties"].pop("state"),
            "schema/properties/state",
        ),
        (
            lambda d: d["components"]["schemas"]["TrialInfo"]["properties"]["trial"].update(type="string"),
            "properties/trial/type",
        ),
        (lambda d: d["components"]["schemas"]["JobRequest"]["required"].append("seed"), "required/seed: is needed now"),
        (lambda d: d["paths"]["/v1/jobs"]["post"]["responses"].pop("202"), "responses/202"),
    ],
)
def test_what_breaks_programs_is_noticed(change: Any, words: str) -> None:
    """A path, a parameter, a field or an answer that goes; a kind that changes; a request that needs more."""
    before, now = json.loads(PUBLISHED.read_text()), json.loads(PUBLISHED.read_text())
    assert broken(before, now) == []
    change(now)
    assert any(words in told for told in broken(before, now))


def test_what_is_added_breaks_nothing() -> None:
    """A path, an optional field, words."""
    before, now = json.loads(PUBLISHED.read_text()), json.loads(PUBLISHED.read_text())
    now["paths"]["/v1/more"] = now["paths"]["/v1/jobs"]
    now["components"]["schemas"]["JobRequest"]["properties"]["more"] = {"type": "string"}
    now["components"]["schemas"]["JobRequest"]["description"] = "Other words."
    assert broken(before, now) == []


def publish() -> None:
    """Write the document as it is now."""
    with tempfile.TemporaryDirectory() as home:
        document = create_app(open_service(Path(home)), OpenGate("")).openapi()
    PUBLISHED.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    publish()

"""Jobs over REST: the same records, the same words as the command line's."""

import json
import re

from starlette.testclient import TestClient
from typer.testing import CliRunner

from space.requests.job_document import to_toml
from space.requests.presets import resolved
from space.spec import JobSpec
from tests.http.conftest import World
from tightfit.cli.app import app


def printed(world: World, *arguments: str) -> str:
    """Return what a command prints."""
    done = CliRunner().invoke(app, [*arguments, "--home", str(world.service.settings.home)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_what_json_prints_is_what_the_service_answers(world: World, client: TestClient) -> None:
    """Status, front, explanation and CSV."""
    job, path = world.done, f"/v1/jobs/{world.done}"
    assert client.get(path).json() == json.loads(printed(world, "status", job, "--json"))
    assert client.get(f"{path}/front").json() == json.loads(printed(world, "front", job, "--json"))
    assert client.get(f"{path}/front?format=csv").text == printed(world, "front", job, "--csv")
    assert client.get(f"{path}/explanation").json() == json.loads(printed(world, "explain", job, "--json"))


def test_what_belongs_to_a_job(world: World, client: TestClient) -> None:
    """Its request, log, plans and report."""
    path, job = f"/v1/jobs/{world.done}", world.service.store.get_job(world.done)
    assert client.get(f"{path}/spec").json() == job.spec.model_dump(mode="json")
    log = client.get(f"{path}/logs").json()
    assert log["text"].endswith("The job is DONE.\n")
    assert client.get(f"{path}/logs", params={"after": log["next"]}).json() == {"text": "", "next": log["next"]}
    assert client.get(f"{path}/logs", params={"after": 2**62}).json() == {"text": "", "next": log["next"]}
    document = world.service.front(world.done)
    point = document.front[0].point
    assert client.get(f"{path}/plans/{point}").json() == world.service.plans(document)[point].to_json()
    report = client.get(f"{path}/report")
    assert report.text.startswith("<!doctype html>")
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")


def test_trials_come_in_pages(world: World, client: TestClient) -> None:
    """All of them, each once, in the order of asking; plans where they are asked for."""
    trials = world.service.store.list_trials(world.done)
    found, after = [], -1
    while after is not None:
        page = client.get(f"/v1/jobs/{world.done}/trials", params={"after": after, "limit": 7}).json()
        assert page["total"] == len(trials)
        found += page["trials"]
        after = page["next"]
    assert [t["trial"] for t in found] == [t.number for t in trials]
    assert [t["kl_divergence"] for t in found] == [t.measurement and t.measurement.kl_divergence for t in trials]
    assert found[0]["plan"] is None
    (first,) = client.get(f"/v1/jobs/{world.done}/trials?plans=true&limit=1").json()["trials"]
    assert first["plan"] == trials[0].plan.to_json()


def test_the_same_request_is_the_same_job(world: World, client: TestClient) -> None:
    """However often it is made, until somebody wants another one; others of other users and budgets."""
    request = world.request(budget="3.5bpw")
    first = client.post("/v1/jobs", json=request)
    job = first.json()["job"]
    assert (first.status_code, first.headers["location"]) == (202, f"/v1/jobs/{job}")
    assert first.json()["user"] == "ada"
    assert client.post("/v1/jobs", json=request).json()["job"] == job
    assert client.post("/v1/jobs?anew=true", json=request).json()["job"] != job
    assert client.post("/v1/jobs", json=request | {"budget": "3.6bpw"}).json()["job"] != job
    again = client.post(f"/v1/jobs/{job}/again", json={"budget": "3.6bpw", "max_trials": 25})
    spec = client.get(f"{again.headers['location']}/spec").json()
    assert spec == client.get(f"/v1/jobs/{job}/spec").json() | {"budget": "3.6bpw", "max_trials": 25}


def test_a_job_is_paused_resumed_and_stopped(world: World, client: TestClient) -> None:
    """Each twice without harm; one that has begun answers 200 to its request."""
    path = client.post("/v1/jobs", json=world.request(budget="3.1bpw")).headers["location"]
    verbs = ("pause", "pause", "resume", "resume", "cancel", "cancel")
    states = [client.post(f"{path}/{verb}").json()["state"] for verb in verbs]
    assert states == ["PAUSED", "PAUSED", "QUEUED", "QUEUED", "CANCELLED", "CANCELLED"]
    found = client.post("/v1/jobs", json=world.request(budget="3.1bpw"))
    assert (found.status_code, found.headers["location"]) == (200, path)


def test_lists_are_filtered_and_paged(world: World, client: TestClient) -> None:
    """Newest first; every job once."""
    for budget in ("5bpw", "5.1bpw", "5.2bpw"):
        client.post("/v1/jobs", json=world.request(budget=budget))
    everything = [found.job_id for found in world.service.store.list_overviews()]
    pages: list[str] = []
    after: str | None = ""
    while after is not None:
        page = client.get("/v1/jobs", params={"limit": 2} | ({"after": after} if after else {})).json()
        assert page["total"] == len(everything)
        pages, after = pages + [found["job"] for found in page["jobs"]], page["next"]
    assert pages == everything
    done = client.get("/v1/jobs?state=DONE&state=FAILED").json()["jobs"]
    ended = [found.job_id for found in world.service.store.list_overviews() if found.state in ("DONE", "FAILED")]
    assert [found["job"] for found in done] == ended
    assert world.done in ended
    assert client.get("/v1/jobs?model=no-such").json() == {"jobs": [], "next": None, "total": 0}
    assert {found["user"] for found in client.get("/v1/jobs?user=ada").json()["jobs"]} == {"ada"}


def test_what_a_request_would_cost(world: World, client: TestClient) -> None:
    """The document of a dry run."""
    told = client.post("/v1/inspect", json=world.request()).json()
    spec = world.service.store.get_job(world.done).spec
    found = world.service.dry_run(spec.model_copy(update={"max_trials": 30}))
    assert told == json.loads(json.dumps(found.to_json()))


def test_presets_and_toml(world: World, client: TestClient) -> None:
    """A preset says what is not given, and a request in TOML is the same request as in JSON."""
    given = {name: world.request()[name] for name in ("model", "budget", "calibration")}
    told = client.post("/v1/inspect", json=given | {"preset": "quick", "seed": 3}).json()["request"]
    assert told == resolved(given | {"seed": 3}, "quick").model_dump(mode="json")
    (quick,) = (preset for preset in client.get("/v1/about").json()["presets"] if preset["name"] == "quick")
    assert quick["values"].items() <= {name: told[name] for name in quick["values"]}.items()
    toml = to_toml(JobSpec(**told))
    found = client.post("/v1/inspect", content=toml, headers={"content-type": "application/toml"}).json()
    assert found["request"] == told


def test_health(world: World, client: TestClient) -> None:
    """For whoever watches; figures count answers by their routes."""
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json()["status"] == "ok"
    client.get("/v1/jobs/nobody")
    text = client.get("/metrics").text
    assert 'tightfit_requests_total{method="GET",route="/v1/jobs/{job}",status="404"} 1.0' in text
    count = sum(found.state == "DONE" for found in world.service.store.list_overviews())
    assert re.search(rf'tightfit_jobs\{{state="DONE"\}} {count}.0', text)

"""MLflow behind the service's door: real pages and answers for those who may see them, nothing for others."""

from collections.abc import Iterator

import pytest

from storage.tracking.mlflow_server import start_server, stop_server
from tests.http.conftest import Named, World
from tests.http.test_people import bearing
from tests.http.test_refusals_over_http import refused
from tightfit.http.api import ApiOptions
from tightfit.http.callers import COOKIE, Caller, Scope

SEARCH = "/mlflow/ajax-api/2.0/mlflow/experiments/search"
CREATE = "/mlflow/api/2.0/mlflow/experiments/create"
GATE = Named(a=Caller("root", Scope.ADMIN, "t1"), r=Caller("ann", Scope.READ, "t2"))


@pytest.fixture(scope="module")
def mlflow(world: World) -> Iterator[str]:
    """Run the MLflow of the world's home."""
    home = world.service.settings.home
    yield start_server(home).url
    stop_server(home)


@pytest.mark.usefixtures("mlflow")
def test_administrators_see_it(world: World) -> None:
    """Its page, files and answers, by a token or a browser's cookie; searching fills no audit, changing is in it."""
    with world.client(GATE) as client:
        page = client.get("/mlflow", headers=bearing("a"))
        assert "<title>MLflow</title>" in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        script = page.text.partition('src="static-files')[2].partition('"')[0]
        assert client.get(f"/mlflow/static-files{script}", headers=bearing("a")).status_code == 200
        start = client.get("/v1/audit?limit=1000", headers=bearing("a")).json()["next"]
        found = client.post(SEARCH, json={"max_results": 1000}, headers=bearing("a"))
        assert "Default" in [experiment["name"] for experiment in found.json()["experiments"]]
        client.cookies.set(COOKIE, "a")
        assert client.post(SEARCH, json={"max_results": 5}).status_code == 200
        foreign = client.post(SEARCH, json={"max_results": 5}, headers={"origin": "http://evil.example"})
        refused(foreign, 403, "A page of")
        assert client.post(CREATE, json={"name": "made"}).status_code == 200
        entries = client.get(f"/v1/audit?after={start}").json()["entries"]
        assert [entry["subject"] for entry in entries] == [CREATE]
        assert client.get("/v1/about").json()["mlflow"] == "/mlflow/"


@pytest.mark.usefixtures("mlflow")
def test_others_see_it_where_it_is_shared(world: World) -> None:
    """And change nothing there; where it is not, they are not even led to it."""
    with world.client(GATE) as client:
        for method, path in (("GET", "/mlflow/"), ("POST", SEARCH), ("GET", "/mlflow/get-artifact?path=x&run_uuid=y")):
            refused(client.request(method, path, headers=bearing("r")), 403, "administrators alone see it")
        assert client.get("/v1/about", headers=bearing("r")).json()["mlflow"] is None
    with world.client(GATE, ApiOptions(is_mlflow_shared=True)) as client:
        assert client.post(SEARCH, json={"max_results": 5}, headers=bearing("r")).status_code == 200
        refused(client.post(CREATE, json={"name": "x"}, headers=bearing("r")), 403, "Administrators alone change")
        refused(client.delete("/mlflow/api/2.0/mlflow/runs/delete", headers=bearing("r")), 403, "alone change")
        file = client.get("/mlflow/get-artifact?path=x&run_uuid=y", headers=bearing("r"))
        assert file.headers["content-security-policy"].startswith("sandbox;")
        assert client.get("/v1/about", headers=bearing("r")).json()["mlflow"] == "/mlflow/"

"""Prompts over HTTP: a process of the service answers them, and says in words what it cannot."""

import json

from starlette.testclient import TestClient

from tests.http.conftest import World


def test_point_answers_beside_the_dense_model(world: World, client: TestClient) -> None:
    """Line by line; what is wrong with a question is told by the status, and the process goes on."""
    address = f"/v1/jobs/{world.done}/answers"
    asked = {"prompt": "import os", "max_tokens": 5}
    found = client.post(address, json=asked)
    assert found.status_code == 200
    pieces = [json.loads(line) for line in found.text.splitlines()]
    assert {(p["who"], p["num_tokens"]) for p in pieces if p["is_last"]} == {("point", 5), ("dense", 5)}
    named = world.service.front(world.done).front[0].point
    assert client.post(address, json={**asked, "point": named}).status_code == 200
    for wrong, status, told in (
        ({**asked, "point": "p999"}, 404, "has no point"),
        ({**asked, "is_chat": True}, 422, "no chat template"),
        ({**asked, "max_tokens": 10**6}, 422, "max_tokens"),
        ({"prompt": ""}, 422, "prompt"),
    ):
        answer = client.post(address, json=wrong)
        assert (answer.status_code, told in answer.json()["detail"]) == (status, True)
    assert client.post("/v1/jobs/jnone/answers", json=asked).status_code == 404
    again = [json.loads(line) for line in client.post(address, json=asked).text.splitlines()]
    assert [p["text"] for p in again if p["who"] == "dense"] == [p["text"] for p in pieces if p["who"] == "dense"]

"""The settings: each is checked, and a wrong one changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import fields, problem_of


def test_settings_are_changed_and_go_back_to_their_default(client: TestClient) -> None:
    before = client.get("/api/settings").json()
    changed = client.patch(
        "/api/settings", json={"resume_automatically": False, "caption_template": "{trigger}"}
    ).json()
    assert (changed["resume_automatically"], changed["caption_template"]) == (False, "{trigger}")
    back = client.patch("/api/settings", json={"resume_automatically": None, "caption_template": None}).json()
    assert back == before


def test_a_hosts_file_must_be_one(client: TestClient, tmp_path: Path) -> None:
    file = tmp_path / "hosts.json"
    file.write_text('{"hosts": [{"ssh": ""}]}', encoding="utf-8")
    for given, words in (("hosts.json", "give its absolute path"), (str(file), "it must be a name that ssh knows")):
        problem = problem_of(client.patch("/api/settings", json={"hosts_file": given}), 422)
        assert fields(problem) == ["hosts_file"]
        assert words in problem["problems"][0]["message"]
    assert client.get("/api/settings").json()["hosts_file"] == ""


def test_wrong_settings_change_nothing(client: TestClient) -> None:
    before = client.get("/api/settings").json()
    wrong = {"resume_automatically": False, "caption_template": "{colour}", "nope": 1}
    assert fields(problem_of(client.patch("/api/settings", json=wrong), 422)) == ["caption_template", "nope"]
    assert client.get("/api/settings").json() == before


@pytest.mark.parametrize("key", ["hosts_file", "model_folders", "model_comfyui_folder", "send_forge"])
def test_a_path_in_a_home_that_does_not_exist_is_refused_with_a_sentence(client: TestClient, key: str) -> None:
    given = "~nobody-of-this-name/models"
    problem = problem_of(client.patch("/api/settings", json={key: given}), 422)
    assert fields(problem) == [key]
    assert client.get("/api/settings").json()[key] == ""

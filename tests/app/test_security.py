"""Requests are accepted from the studio's own pages and from programs on this computer, and from nowhere else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from tests.app.conftest import ROOT

PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
OWN = "http://127.0.0.1"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One application for all: nothing is written here, or the test fails."""
    application = create_app(tmp_path_factory.mktemp("security") / "home", with_jobs=False)
    with TestClient(application, base_url=OWN, raise_server_exceptions=False) as one:
        yield one


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:7860"},
        {"Host": "[::1]:7860"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none", **PAGE},
        {"Sec-Fetch-Site": "cross-site", **PAGE},  # a link to the studio
        {"Origin": OWN},
    ],
)
def test_the_studio_answers_its_user(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/api/projects", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.nip.io"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "0.0.0.0:7860"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/api/projects", "/", "/api/events", "/static/css/base.css"])
def test_requests_from_elsewhere_are_refused_reading_included(
    client: TestClient, headers: dict[str, str], path: str
) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "forbidden"


def test_a_foreign_form_can_change_nothing(client: TestClient) -> None:
    body = '{"name": "x", "trigger": "y", "class_word": "z"}'
    for headers in ({"Sec-Fetch-Site": "cross-site", **PAGE}, {"Content-Type": "text/plain"}):
        assert client.post("/api/projects", content=body, headers=headers).status_code in (403, 422)
    assert client.get("/api/projects").json() == []


@pytest.mark.parametrize("path", ["/", "/api/projects", "/api/nowhere", "/static/css/base.css"])
def test_every_answer_tells_the_browser_what_it_may_do(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_nothing_changes_on_get(client: TestClient) -> None:
    for route in client.get("/api/openapi.json").json()["paths"].values():
        assert "get" not in route or "requestBody" not in route["get"]


def test_static_files_stay_in_their_folder(client: TestClient) -> None:
    for path in ("/static/../app/main.py", "/static/..%2fapp/main.py", "/static/%2e%2e/pyproject.toml"):
        assert client.get(path).status_code == 404


@pytest.mark.slow
def test_the_web_process_never_imports_mlx_or_numpy() -> None:
    """In a fresh interpreter: the whole application, started, its pages and its interface asked."""
    code = """
import sys, tempfile
from pathlib import Path
from starlette.testclient import TestClient
from app.main import create_app
with tempfile.TemporaryDirectory() as folder:
    with TestClient(create_app(Path(folder) / "home"), base_url="http://127.0.0.1") as client:
        for path in ("/", "/api/openapi.json", "/api/models", "/api/settings", "/api/disk", "/models", "/queue"):
            assert client.get(path).status_code == 200, path
        client.post("/api/projects", json={"name": "a", "trigger": "b", "class_word": "c"})
        assert client.get("/api/projects/1/suggestion").status_code == 200
heavy = {name.partition(".")[0] for name in sys.modules} & {"mlx", "numpy", "torch", "transformers", "tokenizers"}
sys.exit(f"the web process has imported {heavy}" if heavy else 0)
"""
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr

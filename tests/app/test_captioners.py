"""Captions from a vision server on this computer: a small real HTTP server that speaks its interface."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.captioners.openai import OpenAICaptioner, base_of, find_servers
from core.captioners.template import TemplateCaptioner
from core.errors import CaptionerProblem
from tests.app.conftest import picture


class VisionServer:
    """Answers with what `answers` holds, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"data": [{"id": "tiny-vision"}, {"id": "other"}]})

            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(*outer.answers.pop(0))

            def answer(self, status: int, body: Any) -> None:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def say(self, text: Any, status: int = 200) -> None:
        self.answers.append((status, {"choices": [{"message": {"content": text}}]} if status == 200 else text))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def vision() -> Iterator[VisionServer]:
    one = VisionServer()
    yield one
    one.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(picture(size=(3000, 1500)))
    return path


def test_a_caption_comes_back_in_one_line_without_thoughts(vision: VisionServer, photo: Path) -> None:
    vision.say('<think>hm, red...</think>\n"A red\n wall." ')
    with OpenAICaptioner(vision.url + "/v1/", "", "Describe sks can.") as captioner:
        assert captioner.origin == "tiny-vision"
        assert captioner.caption(photo) == "A red wall."
    words, image = vision.asked[0]["messages"][0]["content"]
    assert words == {"type": "text", "text": "Describe sks can."}
    sent = Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))))
    assert sent.size == (1024, 512)


def test_a_busy_server_is_asked_again(vision: VisionServer, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.captioners.openai.time.sleep", lambda _: None)
    vision.say(b"busy", 503)
    vision.say("A wall.")
    with OpenAICaptioner(vision.url, "m", "Describe.") as captioner:
        assert captioner.caption(photo) == "A wall."


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>", "not JSON"),
        (200, {"choices": []}, "without text"),
        (200, {"choices": [{"message": {"content": "<think>only thoughts"}}]}, "empty caption"),
        (404, {"error": "model not found"}, "404"),
        (302, b"", "not followed"),
    ],
)
def test_a_useless_answer_is_a_sentence(vision: VisionServer, photo: Path, status: int, body: Any, words: str) -> None:
    vision.answers.append((status, body))
    with OpenAICaptioner(vision.url, "m", "Describe.") as captioner, pytest.raises(CaptionerProblem, match=words):
        captioner.caption(photo)


def test_nobody_there_is_a_sentence() -> None:
    with pytest.raises(CaptionerProblem, match="No server answers"):
        OpenAICaptioner("http://127.0.0.1:9", "", "Describe.")


@pytest.mark.parametrize("url", ["http://example.com", "https://127.0.0.1", "http://127.0.0.1@evil.example", "x"])
def test_photos_are_sent_to_this_computer_only(url: str) -> None:
    with pytest.raises(CaptionerProblem, match="this computer"):
        base_of(url)


def test_servers_that_answer_are_found(vision: VisionServer) -> None:
    found = find_servers(vision.url)
    assert found[0] == {"url": vision.url, "name": vision.url, "models": ["tiny-vision", "other"]}


def test_a_template_says_the_same_of_every_photo(photo: Path) -> None:
    assert TemplateCaptioner("a photo of {trigger} {class_word}", "sks", "can").caption(photo) == "a photo of sks can"


def test_a_caption_job_asks_the_server_and_keeps_what_was_typed(vision: VisionServer, start_studio: Any) -> None:
    from tests.app.conftest import until

    studio = start_studio()
    project = studio.project_with_photos(3)
    typed = studio.get(f"/api/projects/{project}/photos")[1]["id"]
    studio.http.patch(f"/api/photos/{typed}", json={"caption": "typed"})
    vision.say("first")
    vision.say("second")
    body = {"backend": "openai", "url": vision.url}
    job = studio.post(f"/api/projects/{project}/captions", body)["job_id"]
    until(lambda: studio.get(f"/api/jobs/{job}")["state"] == "succeeded")
    photos = studio.get(f"/api/projects/{project}/photos")
    assert [photo["caption"] for photo in photos] == ["first", "typed", "second"]
    assert [photo["caption_origin"] for photo in photos] == ["tiny-vision", "user", "tiny-vision"]
    assert "sks can" in vision.asked[0]["messages"][0]["content"][0]["text"]

    vision.say(b"broken", 500)
    job = studio.post(f"/api/projects/{project}/captions", body | {"overwrite": True})["job_id"]
    failed = until(lambda: (now := studio.get(f"/api/jobs/{job}"))["state"] == "failed" and now)
    assert failed["error"]["code"] == "captioner"
    assert "500" in failed["error"]["message"]

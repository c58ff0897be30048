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
from tests.app.conftest import Studio, picture


class VisionServer:
    """Answers with what `answers` holds, and keeps what it was asked."""

    def __init__(self) -> None:
        self.models: list[Any] | None = [{"id": "tiny-vision"}, {"id": "other"}]
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": outer.models})

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

    def cut(self, text: str, **fields: str) -> None:
        message = {"role": "assistant", "content": text, **fields}
        self.answers.append((200, {"choices": [{"message": message, "finish_reason": "length"}]}))

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


def test_a_server_is_shown_the_photo_without_what_its_mask_ignores(vision: VisionServer, photo: Path) -> None:
    masks = {}
    for name, level in (("ignores", 0), ("background", 128)):
        masks[name] = photo.with_name(f"{name}.png")
        mask = Image.new("L", (3000, 1500), 255)
        mask.paste(level, (0, 0, 1500, 1500))
        mask.save(masks[name])
    vision.say("A wall.")
    vision.say("A wall.")
    with OpenAICaptioner(vision.url, "m", "Describe.") as captioner:
        captioner.caption(photo, masks["ignores"])
        captioner.caption(photo, masks["background"])
    (words, covered), (plain_words, plain) = (asked["messages"][0]["content"] for asked in vision.asked)
    assert words["text"].startswith("Describe. Parts under plain grey are covered on purpose")
    assert plain_words["text"] == "Describe."
    left, right = (sent_picture(covered).getpixel((x, 256)) for x in (256, 768))
    assert left == pytest.approx((128, 128, 128), abs=2)
    assert right == pytest.approx(sent_picture(plain).getpixel((768, 256)), abs=2)
    assert right != pytest.approx(left, abs=20)


def sent_picture(content: dict[str, Any]) -> Image.Image:
    url = content["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url)))


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
        (200, {"choices": [{"message": {"content": "<think>only thoughts"}}]}, "thinking and no caption"),
        (200, {"choices": [{"message": {"content": " \n"}}]}, "empty caption"),
        (200, {"choices": [{"message": {"content": "word " * 2000}}]}, "9,999 characters; at most 2,000"),
        (200, {"error": "Model does not support images."}, "The server reports: Model does not support images."),
        (404, {"error": "model not found"}, "404: model not found"),
        (400, {"error": {"message": "image input is not supported", "code": 500}}, "400: image input is not supported"),
        (500, {"error": {"error": {"message": "failed to process image"}}}, "500: failed to process image"),
        (502, b"<html><body><h1>Bad&nbsp;gateway</h1></body></html>", "502: Bad gateway"),
        (500, b"", "500, without a word"),
        (302, b"", "not followed"),
    ],
)
def test_a_useless_answer_is_a_sentence(vision: VisionServer, photo: Path, status: int, body: Any, words: str) -> None:
    vision.answers.append((status, body))
    with OpenAICaptioner(vision.url, "m", "Describe.") as captioner, pytest.raises(CaptionerProblem, match=words):
        captioner.caption(photo)


def test_an_answer_that_was_cut_off_is_asked_for_once_more_with_more_tokens(vision: VisionServer, photo: Path) -> None:
    vision.cut("A red can stands on a wooden table. Behind it there is a win")
    vision.say("A red can stands on a wooden table.")
    vision.say("A wall.")
    with OpenAICaptioner(vision.url, "m", "Describe.") as captioner:
        assert captioner.caption(photo) == "A red can stands on a wooden table."
        assert captioner.caption(photo) == "A wall."
    assert [each["max_tokens"] for each in vision.asked] == [300, 4096, 4096]


@pytest.mark.parametrize(
    ("text", "fields", "words"),
    [
        ("A red can. Behind it there is a win", {}, "cut off at its limit of 4096 tokens"),
        ("", {"reasoning_content": "I see a can"}, "spent its 4096 tokens thinking"),
        ("", {"reasoning": "I see a can"}, "spent its 4096 tokens thinking"),
        ("<think>I see a can and", {}, "spent its 4096 tokens thinking"),
    ],
)
def test_half_an_answer_is_no_caption(
    vision: VisionServer, photo: Path, text: str, fields: dict[str, str], words: str
) -> None:
    vision.cut(text, **fields)
    vision.cut(text, **fields)
    with OpenAICaptioner(vision.url, "m", "Describe.") as captioner, pytest.raises(CaptionerProblem, match=words):
        captioner.caption(photo)


def test_a_server_without_models_is_a_sentence_and_a_model_for_text_is_not_taken(vision: VisionServer) -> None:
    for models in (None, [], [{"id": "nomic-embed-text"}]):
        vision.models = models
        with pytest.raises(CaptionerProblem, match="has no model yet"):
            OpenAICaptioner(vision.url, "", "Describe.")
    vision.models = [{"id": "text-embedding-nomic-embed-text-v1.5"}, {"id": "some-llm"}, {"id": "qwen2.5-vl-7b"}]
    assert OpenAICaptioner(vision.url, "", "Describe.").origin == "qwen2.5-vl-7b"


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


def test_a_caption_job_asks_the_server_and_keeps_what_was_typed(vision: VisionServer, shared_studio: Studio) -> None:
    from tests.app.conftest import until

    studio = shared_studio
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

    for _ in range(3):
        vision.say({"error": "out of luck"}, 500)
    job = studio.post(f"/api/projects/{project}/captions", body | {"overwrite": True})["job_id"]
    failed = until(lambda: (now := studio.get(f"/api/jobs/{job}"))["state"] == "failed" and now)
    assert failed["error"]["code"] == "captioner"
    assert "for any of the 3 photos. 0.png: " in failed["error"]["message"]
    assert "500: out of luck" in failed["error"]["message"]
    assert [photo["caption"] for photo in studio.get(f"/api/projects/{project}/photos")] == ["first", "typed", "second"]


def test_a_photo_without_an_answer_is_left_out_in_words_and_the_job_goes_on(
    vision: VisionServer, shared_studio: Studio
) -> None:
    from tests.app.conftest import until

    studio = shared_studio
    project = studio.project_with_photos(4)
    for answer in ("first", "", "third"):
        vision.say(answer)
    vision.say({"error": "failed to decode image"}, 500)
    job = studio.post(f"/api/projects/{project}/captions", {"backend": "openai", "url": vision.url})["job_id"]
    done = until(lambda: (now := studio.get(f"/api/jobs/{job}"))["state"] == "succeeded" and now)
    assert [photo["caption"] for photo in studio.get(f"/api/projects/{project}/photos")] == [
        "first",
        None,
        "third",
        None,
    ]
    assert done["result"]["written"] == 2
    empty, broken = done["result"]["left_out"]
    assert empty == {"field": "1.png", "message": "The model gave an empty caption. Try another model."}
    assert broken["message"].endswith("answered 500: failed to decode image")
    log = (studio.home / "logs" / f"job-{job}.txt").read_text()
    assert "1.png was left out. The model gave an empty caption." in log

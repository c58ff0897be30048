"""Captions from a vision model on this computer, through an OpenAI-compatible API.

    POST {base}/v1/chat/completions    one user message: the prompt and the photo as a JPEG data: URL
    GET  {base}/v1/models              the server's models

Ollama, LM Studio, llama.cpp and mlx-vlm implement it. Photos are private: only loopback addresses are called, redirects
are not followed, and proxies from the environment are not used.
"""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image

from core.captioners import reply
from core.captioners.base import Unreachable
from core.dataset import masks
from core.dataset.photos import open_rgb
from core.errors import CaptionerProblem

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KNOWN = {
    "Ollama": "http://127.0.0.1:11434",
    "LM Studio": "http://127.0.0.1:1234",
    "llama.cpp or mlx-vlm": "http://127.0.0.1:8080",
}
SIDE_AT_MOST_PX = 1024
OF_COVERED = "Parts under plain grey are covered on purpose: leave them out, and do not mention the grey."
ANSWER_SECONDS = 300.0  # includes loading the model
SEARCH_SECONDS = 1.0
TRIES = 4  # when the server is busy
TOKENS, MORE_TOKENS = 300, 4096  # of an answer; once one was cut off, it and the following ones get more
ANSWER_BYTES_AT_MOST = 1_000_000
NOT_FOR_PHOTOS = re.compile(r"embed|rerank|whisper|tts|bge-|minilm", re.IGNORECASE)
SEES_PHOTOS = re.compile(r"vl\b|vision|llava|moondream|pixtral|minicpm-v|gemma-?3", re.IGNORECASE)


class OpenAICaptioner:
    """Captions from one model of one server. A context manager, because it holds a connection."""

    def __init__(self, url: str, model: str, prompt: str, *, origin: str = "", key: str = "") -> None:
        """`model` "" selects the server's first; `prompt` has its placeholders filled in.

        `origin` is saved with the captions, by default the model's name; `key` is what the server asks for.
        Raises CaptionerProblem for an address that is not on this computer, or without a server.
        """
        self._base = base_of(url)
        self._prompt, self._tokens = prompt, TOKENS
        self._client = _client(ANSWER_SECONDS, key)
        try:
            self._model = model or _first_model(self._client, self._base)
            self.origin = origin or self._model
        except BaseException:
            self._client.close()
            raise

    def __enter__(self) -> OpenAICaptioner:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def caption(self, photo: Path, mask: Path | None = None) -> str:
        """What the model says about the photo, in one line. An answer that was cut off is asked for once more, longer.

        What the photo's mask ignores is covered. Raises CaptionerProblem, Unreachable, DataProblem.
        """
        picture, is_covered = picture_of(photo, mask)
        image, prompt = data_url(picture), f"{self._prompt} {OF_COVERED}" if is_covered else self._prompt
        try:
            return reply.caption_of(self._answer(image, prompt), self._tokens)
        except reply.CutOff:
            if self._tokens == MORE_TOKENS:
                raise
            self._tokens = MORE_TOKENS
        return reply.caption_of(self._answer(image, prompt), self._tokens)

    def _answer(self, image: str, prompt: str) -> bytes:
        """The body of the server's answer about one photo; a server that is busy is asked again."""
        words = {"type": "text", "text": prompt}
        content = [words, {"type": "image_url", "image_url": {"url": image}}]
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._tokens,
            "temperature": 0.2,
            "stream": False,
        }
        for attempt in range(1, TRIES + 1):
            answer = _ask(self._client, "POST", f"{self._base}/v1/chat/completions", body)
            if answer.status_code not in (429, 503) or attempt == TRIES:
                break
            time.sleep(2.0**attempt)
        return _body_of(answer, self._base)


def find_servers(first: str) -> list[dict[str, Any]]:
    """Of `first` and the known servers, those that answer now: [{"url", "name", "models"}]."""
    names = {url: name for name, url in KNOWN.items()}
    found = []
    with _client(SEARCH_SECONDS) as client:
        for url in dict.fromkeys([first.rstrip("/"), *KNOWN.values()]):
            try:
                found.append({"url": url, "name": names.get(url, url), "models": _models(client, base_of(url))})
            except CaptionerProblem:
                continue
    return found


def base_of(url: str) -> str:
    """The address without a trailing /v1. Raises CaptionerProblem unless it is http on this computer."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise CaptionerProblem(f"{url!r} is not an address; it looks like http://127.0.0.1:11434.") from None
    if parts.scheme != "http" or host not in LOOPBACK or parts.username or parts.password:
        raise CaptionerProblem(
            f"{url} is not on this computer; photos are only sent to http://127.0.0.1:PORT or http://localhost:PORT."
        )
    return f"http://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"


def picture_of(photo: Path, mask: Path | None = None) -> tuple[Image.Image, bool]:
    """The upright photo, at most 1024 px, plain grey over what its mask ignores; and whether there is any of that.

    Raises DataProblem.
    """
    picture, is_covered = open_rgb(photo), False
    if mask is not None:
        levels = masks.read_of_photo(mask, picture.size)
        is_covered = masks.counts(levels)[masks.IGNORED] > 0
        picture = masks.covered(picture, levels)
    picture.thumbnail((SIDE_AT_MOST_PX, SIDE_AT_MOST_PX), Image.Resampling.LANCZOS)
    return picture, is_covered


def data_url(picture: Image.Image) -> str:
    """The picture as a JPEG in a data: URL."""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def _client(seconds: float, key: str = "") -> httpx.Client:
    timeout = httpx.Timeout(seconds, connect=min(seconds, 5.0))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(timeout=timeout, headers=headers, follow_redirects=False, trust_env=False)


def _ask(client: httpx.Client, method: str, url: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
    try:
        return client.request(method, url, json=body)
    except httpx.ConnectError:
        raise Unreachable(f"No server answers at {url}. Start Ollama, LM Studio, llama.cpp or mlx-vlm.") from None
    except httpx.TimeoutException:
        raise CaptionerProblem(f"{url} did not answer in time. Try a smaller model.") from None
    except (httpx.HTTPError, ValueError) as error:  # a ValueError for a header or a compression that cannot be read
        raise CaptionerProblem(f"The connection to {url} failed: {str(error).rstrip('.')}.") from error


def _body_of(answer: httpx.Response, base: str) -> bytes:
    """The body of a successful answer. Raises CaptionerProblem with the server's own words for any other."""
    if answer.is_redirect:
        raise CaptionerProblem(f"{base} redirects ({answer.status_code}), which is not followed.")
    if answer.status_code >= 400:
        words = reply.failure_in(answer.content)
        raise CaptionerProblem(f"{base} answered {answer.status_code}{f': {words}' if words else ', without a word.'}")
    if len(answer.content) > ANSWER_BYTES_AT_MOST:
        raise CaptionerProblem(f"{base} answered with {len(answer.content):,} bytes, which cannot be a caption.")
    return answer.content


def _models(client: httpx.Client, base: str) -> list[str]:
    """The server's models, those that may see photos first."""
    data = reply.parsed(_body_of(_ask(client, "GET", f"{base}/v1/models"), base))
    if error := reply.error_in(data):
        raise CaptionerProblem(f"{base} reports: {error}")
    if not isinstance(data, dict) or not isinstance(rows := data.get("data", ""), list | None):
        raise CaptionerProblem(f"{base} does not list its models. Is the address right?")
    names = [
        reply.printable(str(row["id"])) for row in rows or () if isinstance(row, dict) and row.get("id")
    ]  # Ollama: null for none
    return sorted(names, key=lambda name: 2 if NOT_FOR_PHOTOS.search(name) else 0 if SEES_PHOTOS.search(name) else 1)


def _first_model(client: httpx.Client, base: str) -> str:
    models = [name for name in _models(client, base) if not NOT_FOR_PHOTOS.search(name)]
    if not models:
        raise CaptionerProblem(f"{base} has no model yet that could see photos. Get a vision model there first.")
    return models[0]

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

from core.dataset import captions
from core.dataset.photos import open_rgb
from core.errors import CaptionerProblem

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KNOWN = {
    "Ollama": "http://127.0.0.1:11434",
    "LM Studio": "http://127.0.0.1:1234",
    "llama.cpp or mlx-vlm": "http://127.0.0.1:8080",
}
SIDE_AT_MOST_PX = 1024
ANSWER_SECONDS = 300.0  # includes loading the model
SEARCH_SECONDS = 1.0
TRIES = 4  # when the server is busy
TOKENS_AT_MOST = 300
ANSWER_BYTES_AT_MOST = 1_000_000
THOUGHTS = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)


class OpenAICaptioner:
    """Captions from one model of one server. A context manager, because it holds a connection."""

    def __init__(self, url: str, model: str, prompt: str) -> None:
        """`model` "" selects the server's first; `prompt` has its placeholders filled in.

        Raises CaptionerProblem for an address that is not on this computer, or without a server.
        """
        self._base = base_of(url)
        self._prompt = prompt
        self._client = _client(ANSWER_SECONDS)
        try:
            self.origin = model or _first_model(self._client, self._base)
        except BaseException:
            self._client.close()
            raise

    def __enter__(self) -> OpenAICaptioner:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def caption(self, photo: Path) -> str:
        """The model's caption of the photo, in one line. Raises CaptionerProblem, DataProblem."""
        body = {
            "model": self.origin,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": self._prompt},
                        {"type": "image_url", "image_url": {"url": data_url(photo)}},
                    ],
                }
            ],
            "max_tokens": TOKENS_AT_MOST,
            "temperature": 0.2,
            "stream": False,
        }
        for attempt in range(1, TRIES + 1):
            answer = _ask(self._client, "POST", f"{self._base}/v1/chat/completions", body)
            if answer.status_code not in (429, 503) or attempt == TRIES:
                break
            time.sleep(2.0**attempt)
        return _text_of(_json_of(answer, self._base), self._base)


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


def data_url(photo: Path) -> str:
    """The upright photo, at most 1024 px, as a JPEG in a data: URL. Raises DataProblem."""
    image = open_rgb(photo)
    image.thumbnail((SIDE_AT_MOST_PX, SIDE_AT_MOST_PX), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def _client(seconds: float) -> httpx.Client:
    timeout = httpx.Timeout(seconds, connect=min(seconds, 5.0))
    return httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False)


def _ask(client: httpx.Client, method: str, url: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
    try:
        return client.request(method, url, json=body)
    except httpx.ConnectError:
        raise CaptionerProblem(f"No server answers at {url}. Start Ollama, LM Studio, llama.cpp or mlx-vlm.") from None
    except httpx.TimeoutException:
        raise CaptionerProblem(f"{url} did not answer in time. Try a smaller model.") from None
    except httpx.HTTPError as error:
        raise CaptionerProblem(f"The connection to {url} failed: {error}.") from error


def _json_of(answer: httpx.Response, base: str) -> Any:
    if answer.is_redirect:
        raise CaptionerProblem(f"{base} redirects ({answer.status_code}), which is not followed.")
    if answer.status_code >= 400:
        detail = " ".join(answer.text[:300].split())
        raise CaptionerProblem(f"{base} answered {answer.status_code}: {detail}")
    if len(answer.content) > ANSWER_BYTES_AT_MOST:
        raise CaptionerProblem(f"{base} answered with {len(answer.content):,} bytes, which cannot be a caption.")
    try:
        return answer.json()
    except ValueError:
        raise CaptionerProblem(f"{base} answered with something that is not JSON. Is the address right?") from None


def _models(client: httpx.Client, base: str) -> list[str]:
    data = _json_of(_ask(client, "GET", f"{base}/v1/models"), base)
    rows = data.get("data") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise CaptionerProblem(f"{base} does not list its models. Is the address right?")
    return [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row]


def _first_model(client: httpx.Client, base: str) -> str:
    models = _models(client, base)
    if not models:
        raise CaptionerProblem(f"{base} has no model yet. Get a vision model there first.")
    return models[0]


def _text_of(data: Any, base: str) -> str:
    try:
        text = data["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise CaptionerProblem(f"{base} gave an answer without text. Is it a vision model?")
    caption = " ".join(THOUGHTS.sub("", text).split()).strip("\"' ")
    if not caption:
        raise CaptionerProblem(f"{base} gave an empty caption. Try another model.")
    return caption[: captions.CHARACTERS_AT_MOST]

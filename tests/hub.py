"""A local server that speaks the hub's protocol, over a folder, with the troubles that real life brings.

    GET  /api/models/<repo>?blobs=true      revision; of each file its size, git's hash, and the SHA-256 of large ones
    GET  /<repo>/resolve/<revision>/<file>  small files at once (ETag); large ones by a redirect (X-Linked-Etag, -Size)
    GET  <store>/<repo>/<file>?sha256=      the content, from any byte on (Range); it wants no token and must get none

The store is another origin, as in reality. Every request is kept in `asked`.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlx.core as mx

from core.hub.registry import KnownModel
from tests import tiny_z_image
from tests.tiny import make_model_folder

LARGE_BYTES = 10_000  # files from here on are kept in the store
BLOCK_BYTES = 8_192
TOKEN = "hf_thisTokenMustNeverBeSeenAnywhere"


@dataclass(frozen=True)
class Asked:
    """One request: what for, from which byte on, and whether it said who asks."""

    method: str
    path: str
    begin: int
    authorization: str | None


@dataclass
class Hub:
    """What the servers hold, and how they misbehave. Files are named as in the repository."""

    repositories: dict[str, Path]
    revision: str = "0" * 39 + "1"
    gated: set[str] = field(default_factory=set)  # repositories that want a token of `welcome`
    welcome: set[str] = field(default_factory=set)
    cut_at: dict[str, list[int]] = field(default_factory=dict)  # the connection breaks after so many bytes, once each
    dead_at: dict[str, int] = field(default_factory=dict)  # and here it breaks every time
    silent_at: dict[str, int] = field(default_factory=dict)  # nothing more comes after so many bytes
    damaged: set[str] = field(default_factory=set)  # one byte is another one
    vanished: set[str] = field(default_factory=set)  # listed, but not there
    whole_only: bool = False  # ranges are not understood
    portal: bool = False  # a hotel's sign-in page answers everything
    busy: int = 0  # so many more answers are 503
    claimed: dict[str, int] = field(default_factory=dict)  # sizes that are listed instead of the true ones
    seconds_a_block: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)  # bytes of content by file
    url: str = ""
    store_url: str = ""
    ending: threading.Event = field(default_factory=threading.Event)

    def files(self, repo: str) -> dict[str, Path]:
        folder = self.repositories[repo]
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def total(self, repo: str, names: Iterator[str] | list[str]) -> int:
        files = self.files(repo)
        return sum(files[name].stat().st_size for name in names)


def make_repository(folder: Path) -> Path:
    """A tiny FLUX.1 as such repositories look: its transformer in two shards, and much beside it that nobody needs."""
    make_model_folder(folder)
    (folder / "likeness.json").unlink()
    place = folder / "transformer"
    whole = place / "diffusion_pytorch_model.safetensors"
    tensors = mx.load(str(whole))
    names = sorted(tensors)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    shards = {f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors": halves[i] for i in range(2)}
    for file, held in shards.items():
        mx.save_safetensors(str(place / file), {name: tensors[name] for name in held})
    table = {name: file for file, held in shards.items() for name in held}
    index = {"metadata": {"total_size": 0}, "weight_map": table}
    (place / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()
    for name in ("flux1-schnell.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors", "README.md"):
        (folder / name).write_bytes(b"not needed" * 2000)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"not needed")
    return folder


NEEDLESS = {
    "flux1-schnell.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors", "README.md", "onnx/model.onnx",
}  # fmt: skip


def add_turbo(hub: Hub, known: KnownModel, folder: Path) -> None:
    """Put a tiny Z-Image-Turbo and its training assistant on the hub, each in its repository."""
    model, assistant = tiny_z_image.make_model_folder(folder / "model", turbo=True), folder / "assistant"
    assistant.mkdir()
    (model / tiny_z_image.ASSISTANT).rename(assistant / known.assistant.name)
    (model / "likeness.json").unlink()
    (assistant / "README.md").write_text("not needed")
    hub.repositories |= {known.repo: model, known.assistant.repo: assistant}


@contextmanager
def running_hub(repositories: dict[str, Path]) -> Iterator[Hub]:
    """The hub and its store, on two ports of this computer."""
    hub = Hub(repositories)
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, kind)) for kind in (_HubHandler, _StoreHandler)]
    hub.url, hub.store_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.daemon_threads = True
        thread.start()
    yield hub
    hub.ending.set()
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        return

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):  # the client was stopped, which is what some tests are about
            self.close_connection = True

    @property
    def begin(self) -> int:
        ranged = self.headers.get("Range", "")
        return int(ranged.removeprefix("bytes=").rstrip("-")) if ranged and not self.hub.whole_only else 0

    def note(self) -> None:
        self.hub.asked.append(Asked(self.command, self.path, self.begin, self.headers.get("Authorization")))

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer(
            status, {"X-Error-Code": code, "X-Error-Message": f"{code} for {self.headers.get('Authorization')}"}
        )

    def send_file(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        """The content from the requested byte on, with whatever should go wrong."""
        hub, begin = self.hub, self.begin
        if name in hub.damaged:
            content = bytes([content[0] ^ 1]) + content[1:]
        rest = content[begin:]
        headers = headers | {"Content-Length": str(len(rest)), "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if begin else 200)
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        cuts, place = hub.cut_at.get(name) or [], begin
        break_at = cuts.pop(0) if cuts else hub.dead_at.get(name, len(content) + 1)
        while place < len(content):
            end = min(place + BLOCK_BYTES, len(content), max(break_at, place))
            self.wfile.write(content[place:end])
            hub.sent[name] = hub.sent.get(name, 0) + end - place
            place = end
            if place >= break_at:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if place >= hub.silent_at.get(name, len(content) + 1):
                hub.ending.wait(60)
                self.close_connection = True
                return
            time.sleep(hub.seconds_a_block)


class _HubHandler(_Handler):
    def do_GET(self) -> None:
        self.note()
        hub = self.hub
        if hub.busy:
            hub.busy -= 1
            self.answer(503)
            return
        if hub.portal:
            self.answer(200, {"Content-Type": "text/html"}, b"<html>Welcome to the hotel</html>")
            return
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            self.listing(path.removeprefix("/api/models/"))
            return
        repo, _, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo not in hub.repositories:
            self.refuse(404, "RepoNotFound")
        elif not self.may_read(repo):
            self.refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        elif revision != hub.revision or name in hub.vanished or name not in hub.files(repo):
            self.refuse(404, "EntryNotFound")
        else:
            self.resolve(repo, name)

    do_HEAD = do_GET

    def may_read(self, repo: str) -> bool:
        return repo not in self.hub.gated or self.headers.get("Authorization") in {
            f"Bearer {t}" for t in self.hub.welcome
        }

    def listing(self, repo: str) -> None:
        """What a gated repository holds is no secret."""
        hub = self.hub
        if repo not in hub.repositories:
            self.refuse(401 if self.headers.get("Authorization") is None else 404, "RepoNotFound")
            return
        siblings = []
        for name, path in hub.files(repo).items():
            content = path.read_bytes()
            row: dict[str, Any] = {
                "rfilename": name,
                "size": hub.claimed.get(name, len(content)),
                "blobId": git_hash(content),
            }
            if len(content) >= LARGE_BYTES:
                row["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": row["size"], "pointerSize": 134}
            siblings.append(row)
        gated = "auto" if repo in hub.gated else False
        body = {"id": repo, "modelId": repo, "sha": hub.revision, "gated": gated, "siblings": siblings, "tags": []}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def resolve(self, repo: str, name: str) -> None:
        hub = self.hub
        content = hub.files(repo)[name].read_bytes()
        commit = {"X-Repo-Commit": hub.revision}
        if len(content) < LARGE_BYTES:
            self.send_file(name, content, commit | {"ETag": f'"{git_hash(content)}"'})
            return
        sha256 = hashlib.sha256(content).hexdigest()
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{sha256}"', "ETag": f'"{sha256}"'}
        self.answer(302, commit | linked | {"Location": f"{hub.store_url}/{repo}/{name}?sha256={sha256}"})


class _StoreHandler(_Handler):
    def do_GET(self) -> None:
        self.note()
        path = self.path.partition("?")[0].removeprefix("/")
        repo = next(repo for repo in self.hub.repositories if path.startswith(f"{repo}/"))
        name = path.removeprefix(f"{repo}/")
        content = self.hub.files(repo)[name].read_bytes()
        self.send_file(name, content, {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})


def _handler(hub: Hub, kind: type[_Handler]) -> type[_Handler]:
    return type("Handler", (kind,), {"hub": hub})

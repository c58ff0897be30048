"""Files in and out: uploads streamed to the disk, and files that browsers may cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.types import Receive, Scope, Send

from app.errors import TooLarge
from core.errors import disk_errors_as_problem

DROPPED_AT_MOST = 2**30  # bytes read and dropped of a refused upload, so that the browser reads the answer


class _NameConvertor(PathConvertor):
    """A file name in an address: any characters, line breaks included, since file systems allow them."""

    regex = "(?s:.*)"


register_url_convertor("name", _NameConvertor())


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded body on the disk, under a temporary name."""

    path: Path
    sha256: str
    tail: bytes = b""  # what followed the file in the body


@asynccontextmanager
async def received(request: Request, folder: Path, limit: int, name: str, tail_bytes: int = 0) -> AsyncIterator[Upload]:
    """Stream the body to a temporary file in `folder`, deleted when the block ends unless it was moved.

    The last `tail_bytes` of the body are no part of the file, but a second, small one.

    Raises TooLarge, before anything is written when the length is announced; DiskProblem.
    """
    sentence = f"{name} has more than {limit // 2**20} MB, the limit. Save it smaller."
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        await _drop(request)
        raise TooLarge(sentence)
    with disk_errors_as_problem(folder):
        handle, temporary = tempfile.mkstemp(prefix="upload-", suffix=".part", dir=folder)
        path = Path(temporary)
        try:
            digest, length, tail = hashlib.sha256(), 0, b""
            with os.fdopen(handle, "wb") as file:
                async for chunk in request.stream():
                    length += len(chunk)
                    if length <= limit:
                        chunk = tail + chunk
                        cut = max(len(chunk) - tail_bytes, 0)
                        chunk, tail = chunk[:cut], chunk[cut:]
                        digest.update(chunk)
                        file.write(chunk)
                    elif length > limit + DROPPED_AT_MOST:
                        break
                await run_in_threadpool(_flush, file)
            if length > limit:
                raise TooLarge(sentence)
            yield Upload(path, digest.hexdigest(), tail)
        finally:
            path.unlink(missing_ok=True)


def cached(request: Request, path: Path, media_type: str, tag: str, *, version: str | None = None) -> Response:
    """A file with an ETag; 304 when the browser has it. An address with the current version may be cached for ever."""
    etag = f'"{tag}"'
    immutable = version is not None and tag.startswith(version)
    headers = {"ETag": etag, "Cache-Control": f"private, {'max-age=31536000, immutable' if immutable else 'no-cache'}"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=media_type, headers=headers)


def answers_with(media_type: str) -> dict[str, Any]:
    """Arguments for the decorator of a route that answers with a file: its OpenAPI description."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {"response_class": Response, "responses": {200: {"description": "The file", "content": content}}}


def attachment(path: Path, name: str) -> FileResponse:
    """A file to save under `name`."""
    return FileResponse(path, media_type="application/octet-stream", filename=name)


class StreamedFile(FileResponse):
    """A file made for this answer, to save under `name`; it is deleted once it is sent, or the reader leaves."""

    def __init__(self, path: Path, name: str, media_type: str = "application/zip") -> None:
        super().__init__(path, media_type=media_type, filename=name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            Path(self.path).unlink(missing_ok=True)


async def _drop(request: Request) -> None:
    dropped = 0
    async for chunk in request.stream():
        dropped += len(chunk)
        if dropped > DROPPED_AT_MOST:
            return


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())

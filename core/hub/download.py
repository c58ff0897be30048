"""Download of models into the Hugging Face cache: resumable to the byte, and verified by hash.

    list the repository's files  ->  its index  ->  check the free space  ->  each file that is needed:

    blobs/<hash>.incomplete   grows as bytes arrive; the next attempt, in any process, continues at its end
    blobs/<hash>              after every byte has been hashed and the hash matches
    snapshots/<revision>/...  the link to it, so that a model folder never contains a partial file

huggingface_hub makes the requests; the bytes are written here, because its own writer restarts a file after each
interruption and compares sizes, not hashes. The token is read by huggingface_hub (from HF_TOKEN or `hf auth login`);
no message contains it, and none repeats the text of a request or an answer.

Imports huggingface_hub, which the web process never does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status

from core.device.units import disk_size
from core.errors import DiskProblem, DownloadProblem, disk_errors_as_problem
from core.files import write_text
from core.hub import cache as hub_cache
from core.hub.analysis_models import AnalysisModel
from core.hub.hub_errors import Busy, Named, check_token, endpoint, hub_errors_as_problem
from core.hub.layout import (
    INDEX,
    MODULAR_INDEX,
    is_needed,
    is_needed_flat,
    is_small,
    missing_files,
    missing_flat,
    parts_of,
)
from core.hub.registry import VOCABULARY_BYTES, KnownModel
from core.safetensors_file import read_json

WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # before each retry without progress
TIMEOUT = httpx2.Timeout(20.0, connect=10.0)
BUSY = {408, 429, 500, 502, 503, 504}  # statuses that are worth a retry
MARGIN_BYTES = 2 * 10**9  # left free after the download
BLOCK_BYTES = 2**22
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository. `digest` is its SHA-256 (64 digits), or git's SHA-1 (40) for a small file."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes that have arrived, bytes in all, and the current action."""

    done: int
    of: int
    name: str


Downloadable = KnownModel | AnalysisModel


def download(known: Downloadable, *, assistant_alone: bool = False) -> Iterator[Progress]:
    """Download a model, then its training assistant, if it has one; with `assistant_alone` only the latter.

    Yields as bytes arrive. It can be stopped at any yield: the next download continues from the disk. Raises
    DownloadProblem, GatedProblem, DiskProblem.
    """
    check_token()
    if isinstance(known, AnalysisModel):
        yield Progress(0, known.download_bytes, "asking the hub")
        yield from _listed_files(known, known.repo, known.files, f"which {known.title} needs")
        return
    if not assistant_alone:
        yield Progress(0, known.download_bytes, "asking the hub")
        yield from _model(known)
    if known.assistant is not None:
        yield Progress(0, 0, "asking the hub")
        use = f"the training assistant of {known.title}"
        yield from _listed_files(known, known.assistant.repo, (known.assistant.name,), use)


def download_small_files(known: KnownModel) -> Iterator[Progress]:
    """Download a model's configs and tokenizers alone, for weights that are here already. As `download`."""
    check_token()
    yield Progress(0, VOCABULARY_BYTES, "asking the hub")
    yield from _model(known, weights=False)


def download_flat(known: Named, repo: str) -> Iterator[Progress]:
    """Download a model whose files all lie at the top of its repository; else as `download`."""
    check_token()
    place = hub_cache.folder(repo)
    with hub_errors_as_problem(known, repo), disk_errors_as_problem(place):
        revision, files = _listing(repo)
        needed = sorted((each for each in files if is_needed_flat(each.name)), key=lambda file: file.bytes)
        yield from _fetch_all(known, repo, revision, needed)
        if missing := missing_flat(place / "snapshots" / revision):
            raise DownloadProblem(f"{repo} does not contain a complete model.", missing)
        write_text(place / "refs" / "main", revision)


def _model(known: KnownModel, *, weights: bool = True) -> Iterator[Progress]:
    place = hub_cache.folder(known.repo)
    with hub_errors_as_problem(known, known.repo), disk_errors_as_problem(place):
        revision, files = _listing(known.repo)
        snapshot = place / "snapshots" / revision
        index = next((file for name in (INDEX, MODULAR_INDEX) for file in files if file.name == name), None)
        if index is None:
            raise DownloadProblem(f"{known.repo} has no {INDEX}, so it is not a model in diffusers' layout.")
        for _ in _fetch(known.repo, revision, index, place):
            pass
        parts = parts_of(read_json(snapshot / index.name))
        needed = [file for file in files if is_needed(file.name, parts) and (weights or is_small(file.name))]
        needed.sort(key=lambda file: file.bytes)
        yield from _fetch_all(known, known.repo, revision, needed)
        missing = missing_files(snapshot, weights=weights)
        if missing:
            raise DownloadProblem(f"{known.repo} does not contain a complete model.", missing)
        if weights or not (place / "refs" / "main").is_file():  # an older complete revision stays the first one
            write_text(place / "refs" / "main", revision)


def _listed_files(known: Named, repo: str, names: Sequence[str], use: str) -> Iterator[Progress]:
    place = hub_cache.folder(repo)
    with hub_errors_as_problem(known, repo), disk_errors_as_problem(place):
        revision, files = _listing(repo)
        needed = [each for each in files if each.name in names]
        if gone := set(names) - {each.name for each in needed}:
            raise DownloadProblem(f"{repo} no longer has {', '.join(sorted(gone))}, {use}.")
        yield from _fetch_all(known, repo, revision, needed)
        write_text(place / "refs" / "main", revision)


def _fetch_all(known: Named, repo: str, revision: str, needed: list[RemoteFile]) -> Iterator[Progress]:
    """Download files of a repository, if there is space for those that are missing."""
    place = hub_cache.folder(repo)
    total = sum(file.bytes for file in needed)
    here = {file.name: _bytes_here(place, file) for file in needed}
    _check_space(known, place, total - sum(here.values()))
    done = sum(here.values())
    yield Progress(done, total, "downloading")
    for file in needed:
        others = done - here[file.name]
        for have, arrived in _fetch(repo, revision, file, place):
            if arrived:
                yield Progress(others + have, total, "downloading")
            else:
                yield Progress(done, total, "checking what is here already")
        done = others + file.bytes
        yield Progress(done, total, "downloading")


def _listing(repo: str) -> tuple[str, list[RemoteFile]]:
    """The newest revision and its files. Malformed hashes are refused, because they become file names."""
    info: Any = None
    for wait in (*WAITS_SECONDS[:3], None):
        try:
            info = HfApi(endpoint=endpoint()).model_info(repo, files_metadata=True, timeout=20.0)
            break
        except (httpx2.TransportError, HfHubHTTPError) as error:
            if wait is None or (isinstance(error, HfHubHTTPError) and error.response.status_code not in BUSY):
                raise
            time.sleep(wait)
        except (ValueError, KeyError, TypeError):
            raise DownloadProblem(
                f"{endpoint()} does not answer like Hugging Face. A proxy or a sign-in page may be in between."
            ) from None
    files = []
    for each in info.siblings or ():
        if each.lfs is not None:
            files.append(RemoteFile(each.rfilename, int(each.lfs.size), str(each.lfs.sha256)))
        elif each.size is not None and each.blob_id:
            files.append(RemoteFile(each.rfilename, int(each.size), str(each.blob_id)))
    if not all(HASH.fullmatch(each) for each in (str(info.sha), *(file.digest for file in files))):
        raise DownloadProblem(f"{endpoint()} sent malformed hashes, so no file could be verified.")
    return str(info.sha), files


def _bytes_here(place: Path, file: RemoteFile) -> int:
    blob = place / "blobs" / file.digest
    for path in (blob, blob.with_name(blob.name + hub_cache.INCOMPLETE)):
        if path.is_file():
            return min(path.stat().st_size, file.bytes)
    return 0


def _check_space(known: Named, place: Path, needed: int) -> None:
    """Raise DiskProblem, with the sizes, when too little space is free."""
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if needed > 0 and free < needed + MARGIN_BYTES:
        raise DiskProblem(
            f"{known.title} needs {disk_size(needed)} more and {disk_size(MARGIN_BYTES)} to spare; {disk_size(free)} "
            f"are free in {hub_cache.root()}. Make room, or set HF_HOME to a folder on a larger disk before Likeness "
            "starts."
        )


def _fetch(repo: str, revision: str, file: RemoteFile, place: Path) -> Iterator[tuple[int, bool]]:
    """Download one file; yields its verified bytes so far, and whether they have just arrived."""
    blob, link = place / "blobs" / file.digest, place / "snapshots" / revision / file.name
    lock = place.parent / ".locks" / place.name / f"{file.digest}.lock"
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # another program may be downloading it
        if not (blob.is_file() and blob.stat().st_size == file.bytes):
            part = blob.with_name(blob.name + hub_cache.INCOMPLETE)
            url = hf_hub_url(repo, file.name, revision=revision, endpoint=endpoint())
            with part.open("ab+", buffering=0) as target:
                digest = yield from _fill(target, url, file)
                os.fsync(target.fileno())
            if digest != file.digest:
                part.unlink()
                raise DownloadProblem(
                    f"{file.name} of {repo} arrived damaged: its hash is {digest[:12]}..., it should be "
                    f"{file.digest[:12]}.... It has been deleted; try again to download it anew."
                )
            os.replace(part, blob)
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))


def _fill(target: FileIO, url: str, file: RemoteFile) -> Generator[tuple[int, bool], None, str]:
    """Append the missing bytes to `target` and return the digest of the file; retries when the connection breaks."""
    digest, have, tries = _hash_for(file), 0, 0
    target.seek(0)
    while block := target.read(BLOCK_BYTES):
        digest.update(block)
        have += len(block)
        yield have, False
    while have < file.bytes:
        before = have
        try:
            for chunk, begin in _chunks(url, have):
                if begin != have:  # the server does not support ranges: it sends the whole file
                    target.truncate(0)
                    digest, have = _hash_for(file), 0
                left = memoryview(chunk)
                while left:
                    left = left[target.write(left) :]
                digest.update(chunk)
                have += len(chunk)
                yield have, True
                if have > file.bytes:
                    break
            broken = have == before  # an empty answer
        except Busy:
            broken = True
        tries = 0 if have > before else tries + 1
        if broken and tries > len(WAITS_SECONDS):
            raise Busy
        if broken:
            time.sleep(WAITS_SECONDS[max(tries - 1, 0)])
    return str(digest.hexdigest())


def _chunks(url: str, begin: int) -> Iterator[tuple[bytes, int]]:
    """The file's bytes from `begin` on as they arrive, each chunk with its offset. Raises Busy, HfHubHTTPError."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    try:
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
            if answer.status_code in BUSY:
                raise Busy
            hf_raise_for_status(answer)
            offset = begin if answer.status_code == 206 else 0
            for chunk in answer.iter_raw():
                yield chunk, offset
                offset += len(chunk)
    except httpx2.TransportError as error:
        raise Busy from error


def _hash_for(file: RemoteFile) -> Any:
    """SHA-256, or git's: SHA-1 of a header and the content."""
    if len(file.digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {file.bytes}\0".encode(), usedforsecurity=False)

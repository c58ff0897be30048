"""Fetching a model from the hub into the cache that all programs share: resumable to the byte, and checked by hash.

    ask what the repository holds  ->  the model's index  ->  is there room?  ->  each file that it needs:

    blobs/<hash>.incomplete   grows as bytes arrive; a second attempt, of whatever process, goes on where it ends
    blobs/<hash>              once every byte has been hashed and the hash is the hub's
    snapshots/<revision>/...  the link to it, so a folder never shows a file that is not whole

The hub's own client asks and signs; the bytes are written here, because its own writer begins a file anew after each
stop and compares sizes, not hashes. The token is read by the client (HF_TOKEN, or the file that `hf auth login` writes)
and appears in no sentence: what a request or an answer says is never repeated.

Imports huggingface_hub, which the web process never does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, get_session, get_token, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils._fixes import WeakFileLock
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import hf_raise_for_status

from core.errors import DiskProblem, DownloadProblem, GatedProblem, disk_errors_as_problem
from core.files import write_text
from core.hub import cache as hub_cache
from core.hub.layout import INDEX, is_needed, missing_files, parts_of
from core.hub.registry import HubFile, Known
from core.safetensors_file import read_json

WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # before asking again, when nothing has come in between
TIMEOUT = httpx2.Timeout(20.0, connect=10.0)
BUSY = {408, 429, 500, 502, 503, 504}  # the hub may answer better in a moment
MARGIN_BYTES = 2 * 10**9  # left free beside what is downloaded
BLOCK_BYTES = 2**22
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file of a repository. `digest` is its SHA-256 (64 digits), or git's hash of it (40) when it is small."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How many bytes are here, of how many, and what is being done."""

    done: int
    of: int
    name: str


class Busy(Exception):
    """The connection broke, or the hub asked to come back later."""


def download(known: Known, *, assistant_alone: bool = False) -> Iterator[Progress]:
    """Fetch all of a model, then its training assistant; `assistant_alone` is for a model that is here already.

    Yields as bytes arrive, and may be left at any yield: what is on the disk stays useful. Raises DownloadProblem,
    GatedProblem, DiskProblem.
    """
    _look_at_token()
    if not assistant_alone:
        yield Progress(0, known.download_bytes, "asking the hub")
        yield from _model(known)
    if known.assistant is not None:
        yield Progress(0, 0, "asking the hub")
        yield from _one_file(known, known.assistant)


def _model(known: Known) -> Iterator[Progress]:
    place = hub_cache.folder(known.repo)
    with _hub_trouble_as_sentence(known, known.repo), disk_errors_as_problem(place):
        revision, files = _listing(known.repo)
        snapshot = place / "snapshots" / revision
        index = next((file for file in files if file.name == INDEX), None)
        if index is None:
            raise DownloadProblem(f"{known.repo} holds no {INDEX}, so it is no model in diffusers' layout.")
        for _ in _fetch(known.repo, revision, index, place):
            pass
        parts = parts_of(read_json(snapshot / INDEX))
        needed = sorted((file for file in files if is_needed(file.name, parts)), key=lambda file: file.bytes)
        yield from _fetch_all(known, known.repo, revision, needed)
        missing = missing_files(snapshot)
        if missing:
            raise DownloadProblem(f"{known.repo} does not hold a whole model.", missing)
        write_text(place / "refs" / "main", revision)


def _one_file(known: Known, wanted: HubFile) -> Iterator[Progress]:
    place = hub_cache.folder(wanted.repo)
    with _hub_trouble_as_sentence(known, wanted.repo), disk_errors_as_problem(place):
        revision, files = _listing(wanted.repo)
        needed = [file for file in files if file.name == wanted.name]
        if not needed:
            raise DownloadProblem(
                f"{wanted.repo} no longer holds {wanted.name}, the training assistant of {known.title}."
            )
        yield from _fetch_all(known, wanted.repo, revision, needed)
        write_text(place / "refs" / "main", revision)


def _fetch_all(known: Known, repo: str, revision: str, needed: list[Wanted]) -> Iterator[Progress]:
    """Bring files of a repository into the cache, if there is room for what is not here yet."""
    place = hub_cache.folder(repo)
    total = sum(file.bytes for file in needed)
    here = {file.name: _bytes_here(place, file) for file in needed}
    _ask_for_room(known, place, total - sum(here.values()))
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


def _listing(repo: str) -> tuple[str, list[Wanted]]:
    """The newest revision and every file in it, as the hub describes them.

    Hashes name files of the cache, so what is no hash is refused.
    """
    info: Any = None
    for wait in (*WAITS_SECONDS[:3], None):
        try:
            info = HfApi(endpoint=_endpoint()).model_info(repo, files_metadata=True, timeout=20.0)
            break
        except (httpx2.TransportError, HfHubHTTPError) as error:
            if wait is None or (isinstance(error, HfHubHTTPError) and error.response.status_code not in BUSY):
                raise
            time.sleep(wait)
        except (ValueError, KeyError, TypeError):
            raise DownloadProblem(
                f"{_endpoint()} answers, but not as the hub does. A proxy or a sign-in page may be in between."
            ) from None
    files = []
    for each in info.siblings or ():
        if each.lfs is not None:
            files.append(Wanted(each.rfilename, int(each.lfs.size), str(each.lfs.sha256)))
        elif each.size is not None and each.blob_id:
            files.append(Wanted(each.rfilename, int(each.size), str(each.blob_id)))
    if not all(HASH.fullmatch(each) for each in (str(info.sha), *(file.digest for file in files))):
        raise DownloadProblem(f"{_endpoint()} names hashes that are none, so nothing that it sends could be checked.")
    return str(info.sha), files


def _bytes_here(place: Path, file: Wanted) -> int:
    blob = place / "blobs" / file.digest
    for path in (blob, blob.with_name(blob.name + hub_cache.INCOMPLETE)):
        if path.is_file():
            return min(path.stat().st_size, file.bytes)
    return 0


def _ask_for_room(known: Known, place: Path, needed: int) -> None:
    """Raises DiskProblem with the numbers."""
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if needed > 0 and free < needed + MARGIN_BYTES:
        raise DiskProblem(
            f"{known.title} needs {_gb(needed)} more and {_gb(MARGIN_BYTES)} to spare; {_gb(free)} are free in "
            f"{hub_cache.root()}. Make room, or set HF_HOME to a folder on a larger disk before Likeness starts."
        )


def _fetch(repo: str, revision: str, file: Wanted, place: Path) -> Iterator[tuple[int, bool]]:
    """Bring one file into the cache; yields how many bytes of it are good, and whether they have just arrived."""
    blob, link = place / "blobs" / file.digest, place / "snapshots" / revision / file.name
    lock = place.parent / ".locks" / place.name / f"{file.digest}.lock"
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # another program may be fetching it
        if not (blob.is_file() and blob.stat().st_size == file.bytes):
            part = blob.with_name(blob.name + hub_cache.INCOMPLETE)
            url = hf_hub_url(repo, file.name, revision=revision, endpoint=_endpoint())
            with part.open("ab+", buffering=0) as target:
                digest = yield from _fill(target, url, file)
                os.fsync(target.fileno())
            if digest != file.digest:
                part.unlink()
                raise DownloadProblem(
                    f"{file.name} of {repo} arrived damaged: its hash is {digest[:12]}..., it should be "
                    f"{file.digest[:12]}.... It has been thrown away; try again to fetch it anew."
                )
            os.replace(part, blob)
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))


def _fill(target: FileIO, url: str, file: Wanted) -> Generator[tuple[int, bool], None, str]:
    """Append what is missing to `target` and return the digest of all of it; asks again when the connection breaks."""
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
                if begin != have:  # the server cannot begin in the middle: it sends the whole file
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
            broken = have == before  # an answer without content
        except Busy:
            broken = True
        tries = 0 if have > before else tries + 1
        if broken and tries > len(WAITS_SECONDS):
            raise Busy
        if broken:
            time.sleep(WAITS_SECONDS[max(tries - 1, 0)])
    return str(digest.hexdigest())


def _chunks(url: str, begin: int) -> Iterator[tuple[bytes, int]]:
    """The file's bytes from `begin` on as they arrive, each with its place. Raises Busy, HfHubHTTPError."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    try:
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
            if answer.status_code in BUSY:
                raise Busy
            hf_raise_for_status(answer)
            place = begin if answer.status_code == 206 else 0
            for chunk in answer.iter_raw():
                yield chunk, place
                place += len(chunk)
    except httpx2.TransportError as error:
        raise Busy from error


def _hash_for(file: Wanted) -> Any:
    """SHA-256, or git's: SHA-1 of a header and the content."""
    if len(file.digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {file.bytes}\0".encode(), usedforsecurity=False)


def _look_at_token() -> None:
    """A token that no header can carry is said to be one, without saying what it is. Raises DownloadProblem."""
    token = get_token() or ""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise DownloadProblem("Your token for the hub is not one: it has spaces or other characters that none has.")


@contextmanager
def _hub_trouble_as_sentence(known: Known, repo: str) -> Iterator[None]:
    """What the hub's client raises, in our words; its own would repeat addresses and headers."""
    where = f"{_endpoint()}/{repo}"
    try:
        yield
    except GatedRepoError:
        raise GatedProblem(_gated_words(known)) from None
    except RepositoryNotFoundError:
        raise DownloadProblem(
            f"There is no {where}, or it is not shown to you. Look at its page in a browser; it may have moved."
        ) from None
    except EntryNotFoundError:
        raise DownloadProblem(f"A file that {where} lists is not there. Try again later; it may be changing.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        words = {
            401: "The hub does not accept your token: it may be mistyped, withdrawn or too old. Make a new one.",
            403: "The hub refuses this to your token: give it the right to read, or make a new one.",
            429: "The hub has been asked too often from here. Wait some minutes, then try again.",
        }
        raise DownloadProblem(
            words.get(status, f"The hub answered with an error ({status}). Try again later.")
        ) from None
    except OfflineModeIsEnabled:
        raise DownloadProblem("HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it and start again.") from None
    except (Busy, httpx2.HTTPError, httpx2.InvalidURL):
        raise DownloadProblem(
            f"The connection to {_endpoint()} was lost. What has arrived is kept; try again to go on from there."
        ) from None


def _gated_words(known: Known) -> str:
    accept = f"Open {known.page} in a browser, sign in, and accept {known.gated or 'what is asked there'}."
    if get_token() is None:
        return (
            f"{known.title} is handed out only to people who have accepted its conditions. {accept} Then make a token "
            "that may read (Settings, Access Tokens) and tell it to this computer with hf auth login in a terminal, "
            "or start Likeness with it in HF_TOKEN. Then try again."
        )
    return (
        f"{known.title} is not handed out to the account of your token yet. {accept} Some owners answer later; a "
        "fine-grained token also needs the right to read gated repositories. Then try again."
    )


def _endpoint() -> str:
    """The hub's address: HF_ENDPOINT, else the client's own."""
    return constants.ENDPOINT


def _gb(count: int) -> str:
    return f"{count / 10**9:.1f} GB"

"""Sending an adapter to another program, as a job: the files are made in the home, then copied or zipped.

a folder   each file is written under a temporary name, read back, and named in one step. A file that is there is never
           replaced: one with the same bytes is used as it is, otherwise all files get the next free number. When one
           cannot be written, those that were written before it are removed.
a zip      in the home, for the browser to download
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from PIL import Image

from app import settings, wording
from app.actions import send_places
from app.actions.send_job import Sending
from app.actions.send_places import Place
from app.jobs.states import State
from app.worker import send_contents
from app.worker.outcome import Outcome
from app.worker.work import Work
from core import files
from core.adapters import file as adapter_file
from core.errors import AdapterProblem, ConfigProblem, DiskProblem, FieldProblem

ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # of all entries, so that the same files are the same zip
PHASE = "writing the files"


def send_adapter(work: Work) -> Outcome:
    """Write the files that the job's parameters describe.

    Raises AdapterProblem for an adapter without effect, ConfigProblem when the folder cannot be used, DiskProblem.
    """
    sending, home = Sending.from_json(work.job.params), work.home
    source, folder = home.file(sending.file), home.exports / str(work.claim.job_id)
    if not source.is_file():
        raise AdapterProblem("The checkpoint's file is no longer there; send another step.")
    shutil.rmtree(folder, ignore_errors=True)  # half-written files of an attempt that was killed
    work.report_phase(PHASE, 0, 1)
    preview = send_contents.preview_of(home.file(sending.preview)) if sending.preview else None
    held = adapter_file.read(source, sending.use.family)
    adapter_file.check_worth(held.factors)
    adapters = {part: folder / f"{part}.safetensors" for part in sending.forms}
    for part, path in adapters.items():
        send_contents.write_adapter(path, held, sending.forms[part], sending, preview)
    if sending.place is None:
        return _zipped(work, sending, adapters, preview)
    words = send_places.trouble_of(
        settings.path_of(sending.folder), sending.program, home, sum(path.stat().st_size for path in adapters.values())
    )
    if words:
        raise ConfigProblem("The folder cannot be used.", [FieldProblem("folder", words)])
    return _copied(work, sending, adapters, preview)


def contents_of(sending: Sending, adapters: Mapping[str, Path], preview: Image.Image | None) -> dict[str, bytes | Path]:
    """The contents of the files by part, in the order of writing: bytes, or a file to copy."""
    texts = send_contents.texts_of(sending)
    found: dict[str, bytes | Path] = {}
    for part in sending.parts:
        if part in adapters:
            found[part] = adapters[part]
        elif part in texts:
            found[part] = texts[part].encode()
        elif preview is not None:
            opens = send_contents.workflow_of(sending) if send_places.WORKFLOW in sending.parts else None
            found[part] = send_contents.png(preview, opens)
    return found


def _zipped(work: Work, sending: Sending, adapters: Mapping[str, Path], preview: Image.Image | None) -> Outcome:
    folder = work.home.exports / str(work.claim.job_id)
    target = folder / "adapter.zip"
    contents = contents_of(sending, adapters, preview)
    with files.atomic_file(target) as part:
        with zipfile.ZipFile(part, "w") as packed:
            for each, content in contents.items():
                entry = zipfile.ZipInfo(send_places.name_in_zip(each, sending.stem), ZIP_DATE)
                entry.external_attr = 0o644 << 16
                packed.writestr(entry, content.read_bytes() if isinstance(content, Path) else content)
        with zipfile.ZipFile(part) as packed:
            if packed.testzip() is not None or len(packed.namelist()) != len(contents):
                raise AdapterProblem("The zip was written, but reading it back gives other bytes. Check the disk.")
    for path in adapters.values():
        path.unlink()
    name, size = f"{sending.stem}.zip", target.stat().st_size
    work.log(f"Wrote {name} ({wording.size(size)}), and read it back.")
    return Outcome(State.SUCCEEDED, result={"file": work.home.relative(target), "name": name, "bytes": size})


def _copied(work: Work, sending: Sending, adapters: Mapping[str, Path], preview: Image.Image | None) -> Outcome:
    for number in count(1):
        named = sending.named(sending.stem if number == 1 else f"{sending.stem}-{number}")
        place = named.place
        if place is None:
            raise ValueError("a folder is expected")
        contents = {place.path(part, named.stem): each for part, each in contents_of(named, adapters, preview).items()}
        if all(not path.exists() or _is_same(path, content) for path, content in contents.items()):
            try:
                fresh = _write_all(contents)
            except FileExistsError:  # made by somebody else meanwhile
                continue
            shutil.rmtree(next(iter(adapters.values())).parent, ignore_errors=True)
            return _outcome(work, place, contents, fresh)
    raise ValueError("no name is free")


def _outcome(work: Work, place: Place, contents: Mapping[Path, bytes | Path], fresh: list[Path]) -> Outcome:
    size = sum(path.stat().st_size for path in contents)
    there = len(contents) - len(fresh)
    words = f"Wrote {wording.plural(len(fresh), 'file')} to {place.adapters}, and read them back."
    if not fresh:
        words = f"All {there} files are in {place.adapters} already, with the same bytes."
    elif there:
        words += f" Already there, with the same bytes: {there}."
    work.log(words)
    written = [str(path) for path in contents]
    result = {"folder": str(place.adapters), "name": Path(written[0]).name, "bytes": size, "written": written}
    return Outcome(State.SUCCEEDED, result=result | {"words": words})


def _write_all(contents: Mapping[Path, bytes | Path]) -> list[Path]:
    """Write the files that are not there; returns them. When one fails, none of them stays. Raises FileExistsError."""
    fresh: list[Path] = []
    try:
        for path, content in contents.items():
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.new_file(path) as part:
                if isinstance(content, Path):
                    shutil.copyfile(content, part)
                else:
                    part.write_bytes(content)
                if not _is_same(part, content):
                    raise DiskProblem(f"{path} was written, but reading it back gives other bytes. Check the disk.")
            fresh.append(path)
    except BaseException:
        for path in fresh:
            path.unlink(missing_ok=True)
        raise
    return fresh


def _is_same(path: Path, content: bytes | Path) -> bool:
    """Whether a file has these bytes."""
    size = content.stat().st_size if isinstance(content, Path) else len(content)
    return path.is_file() and path.stat().st_size == size and files.sha256_of(path) == files.sha256_of(content)

"""Files and rows change together: what was acknowledged stays; what was deleted goes, also after a death half-way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from app.actions import adapters, masks, photos, projects, unreferenced
from app.actions.unreferenced import UnreferencedFiles
from app.database import Database
from app.tables import Adapter
from core import files
from tests.app.conftest import picture
from tests.app.test_masks import mask_png


@pytest.fixture
def add(database: Database, tmp_path: Path) -> Callable[[int, str], int]:
    """Upload a photo of this colour to the project; returns its id."""

    def upload(project: int, colour: str) -> int:
        file = tmp_path / f"{project}-{colour}.part"
        file.write_bytes(picture(colour))
        return photos.add(database, project, f"{colour}.png", file, files.sha256_of(file))[0].id

    return upload


def project_of(database: Database, name: str) -> int:
    return projects.create(database, name, "sks", "can").id


def has_files(database: Database, project: int) -> list[bool]:
    return [Path(photos.file_of(database, each.id).path).is_file() for each in photos.list_photos(database, project)]


def in_trash(database: Database) -> list[str]:
    return sorted(path.name for path in database.home.trash.rglob("*") if path.is_file())


def test_a_photo_that_is_uploaded_between_a_deletion_and_its_move_to_the_trash_stays(
    database: Database, add: Callable[[int, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = project_of(database, "First"), project_of(database, "Second")
    add(first, "red")
    move = UnreferencedFiles.to_trash

    def upload_then_move(self: UnreferencedFiles, *given: object) -> int:
        add(second, "red")
        return move(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(UnreferencedFiles, "to_trash", upload_then_move)
    projects.delete(database, first)
    assert has_files(database, second) == [True]
    assert in_trash(database) == []


def test_a_photo_whose_twin_is_deleted_while_it_is_checked_stays(
    database: Database, add: Callable[[int, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = project_of(database, "First"), project_of(database, "Second")
    add(first, "red")
    check = photos.check_file

    def check_while_it_is_deleted(*given: object) -> photos.CheckedFile:
        checked = check(*given)  # type: ignore[arg-type]
        projects.delete(database, first)
        return checked

    monkeypatch.setattr(photos, "check_file", check_while_it_is_deleted)
    add(second, "red")
    assert has_files(database, second) == [True]


def test_a_mask_whose_twin_is_deleted_meanwhile_stays(
    database: Database, add: Callable[[int, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = project_of(database, "First"), project_of(database, "Second")
    one, other = add(first, "red"), add(second, "blue")
    masks.put(database, one, mask_png((80, 64)))
    read = masks.read

    def read_while_it_is_deleted(*given: object) -> masks.Drawn:
        drawn = read(*given)  # type: ignore[arg-type]
        projects.delete(database, first)
        return drawn

    monkeypatch.setattr(masks, "read", read_while_it_is_deleted)
    masks.put(database, other, mask_png((80, 64)))
    assert masks.get(database, other).path.is_file()


def test_a_photo_whose_file_is_gone_comes_back_with_the_same_upload(
    database: Database, add: Callable[[int, str], int]
) -> None:
    project = project_of(database, "First")
    number = add(project, "red")
    photos.file_of(database, number).path.unlink()
    assert add(project, "red") == number
    assert has_files(database, project) == [True]


def test_a_deletion_that_dies_half_way_is_finished_at_the_next_start(
    database: Database, add: Callable[[int, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = project_of(database, "First"), project_of(database, "Second")
    for colour in ("red", "green", "blue"):
        add(first, colour)
    add(second, "red")
    home = database.home
    loose = [home.run(7) / "log.txt", home.exports / "9" / "a.safetensors", home.pictures / "4-0.png"]
    for path in loose:  # whose rows are deleted already
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"loose")
    replace, moved = os.replace, 0

    def die_at_the_second(source: Path, target: Path) -> None:
        nonlocal moved
        moved += 1
        if moved > 1:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            projects.delete(database, first)
    assert len(list(home.photos.iterdir())) == 2
    assert unreferenced.move_all(database, older_than_seconds=3600) == 0  # an upload may be about to write its row
    assert unreferenced.move_all(database) == 4
    assert len(list(home.photos.iterdir())) == 1
    assert has_files(database, second) == [True]
    assert len(in_trash(database)) == 5
    assert not [path for path in loose if path.exists()]


def test_what_rows_refer_to_is_never_loose(database: Database, add: Callable[[int, str], int], tmp_path: Path) -> None:
    number = add(project_of(database, "First"), "red")
    masks.put(database, number, mask_png((80, 64)))
    imported(database, tmp_path / "one")
    assert unreferenced.move_all(database) == 0


def imported(database: Database, upload: Path) -> tuple[adapters.AdapterView, bool]:
    layer = "transformer.transformer_blocks.0.attn.to_q"
    factors = {f"{layer}.lora_A.weight": mx.ones((4, 64)), f"{layer}.lora_B.weight": mx.ones((64, 4))}
    mx.save_safetensors(str(upload), factors, {"format": "pt"})
    upload.with_suffix(".safetensors").rename(upload)
    return adapters.import_file(database, "one.safetensors", upload, files.sha256_of(upload), "pocket")


def test_an_adapter_that_is_imported_six_times_at_once_is_one(database: Database, tmp_path: Path) -> None:
    start, new = threading.Barrier(6), []

    def bring(number: int) -> None:
        start.wait()
        new.append(imported(database, tmp_path / f"upload {number}")[1])

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(new) == [False] * 5 + [True]
    assert len(adapters.list_adapters(database)) == 1


def test_deleting_one_of_two_rows_of_an_adapter_leaves_the_others_file(database: Database, tmp_path: Path) -> None:
    view, _ = imported(database, tmp_path / "upload")
    with database.write() as session:  # as earlier versions could have two of the same file
        row = adapters.find(session, view.id)
        twin = Adapter(name="twin", model=row.model, file=row.file, sha256=row.sha256, rank=row.rank)
        session.add(twin)
        session.flush()
        number = int(twin.id or 0)
    adapters.delete(database, view.id)
    assert adapters.file_of(database, number).path.is_file()
    adapters.delete(database, number)
    assert in_trash(database) == ["one.safetensors"]


def test_a_photo_has_no_row_when_its_file_cannot_be_put_in_its_place(
    database: Database, add: Callable[[int, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_of(database, "First")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(photos.os, "replace", fail)
    with pytest.raises(Exception, match="Make room"):
        add(project, "red")
    assert photos.list_photos(database, project) == []

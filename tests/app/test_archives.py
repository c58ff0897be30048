"""A zip in and out: kohya's and ai-toolkit's layouts, and archives that are wrong in every way."""

from __future__ import annotations

import io
import random
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from core.dataset import archives
from core.errors import DataProblem
from tests.app.conftest import PROJECT, fields, picture, problem_of, put
from tests.app.test_edits import state, undo
from tests.app.test_masks import mask_png

BOX = {"left": 0.25, "top": 0.0, "right": 0.75, "bottom": 1.0}


METADATA = '{"file_name": "A.png", "text": "a red can"}'


def packed(files: dict[str, bytes | str], form: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", form) as archive:
        for name, inner in files.items():
            archive.writestr(name, inner)
    return content.getvalue()


def send(client: TestClient, project: int, content: bytes) -> Any:
    return client.put(f"/api/projects/{project}/archive", content=content)


def photos(client: TestClient, project: int) -> dict[str, Any]:
    return {one["name"]: one for one in client.get(f"/api/projects/{project}/photos").json()}


def mask_of(client: TestClient, view: Any) -> bytes:
    return Image.open(io.BytesIO(client.get(view["mask_url"]).content)).tobytes()


MASK = Image.open(io.BytesIO(mask_png((80, 64)))).tobytes()


@pytest.mark.parametrize(
    ("files", "captions", "masked"),
    [
        (  # ai-toolkit
            {"A.png": "red", "A.txt": "a red can", "B.png": "blue", "masks/A.png": "mask"},
            {"A.png": "a red can", "B.png": None},
            ["A.png"],
        ),
        (  # kohya's scripts
            {"img/10_sks can/A.png": "red", "img/10_sks can/A.caption": "a red can", "mask/A.png": "mask"},
            {"A.png": "a red can"},
            ["A.png"],
        ),
        (  # kohya's example: a folder of masks beside that of the photos
            {"set/A.png": "red", "set/B.png": "blue", "set_mask/B.png": "mask"},
            {"A.png": None, "B.png": None},
            ["B.png"],
        ),
        (  # OneTrainer's names, and captions in one file
            {
                "A.png": "red",
                "A-masklabel.png": "mask",
                "metadata.jsonl": '{"file_name": "A.png", "text": "a red can"}',
            },
            {"A.png": "a red can"},
            ["A.png"],
        ),
        (  # a subject that is a mask
            {"img/10_sks mask/A.png": "red", "mask/A.png": "mask"},
            {"A.png": None},
            ["A.png"],
        ),
        ({"my mask/A.png": "red", "my mask/A.txt": "a mask"}, {"A.png": "a mask"}, []),
        (  # a folder of a Mac
            {"My can/A.png": "red", "__MACOSX/My can/._A.png": "x", "My can/.DS_Store": "x", "My can/A.txt": "a can"},
            {"A.png": "a can"},
            [],
        ),
    ],
)
def test_layouts_come_in_with_captions_and_masks(
    client: TestClient, project: int, files: dict[str, str], captions: dict[str, str | None], masked: list[str]
) -> None:
    inner = {
        name: mask_png((80, 64)) if what == "mask" else picture(what) if what in ("red", "blue") else what
        for name, what in files.items()
    }
    said = send(client, project, packed(inner))
    assert said.status_code == 200, said.text
    found = photos(client, project)
    assert {name: one["caption"] for name, one in found.items()} == captions
    assert [name for name, one in found.items() if one["mask"]] == masked
    assert all(mask_of(client, found[name]) == MASK for name in masked)
    body = said.json()
    written = sum(text is not None for text in captions.values())
    assert (body["added"], body["captions"], body["masks"]) == (len(captions), written, len(masked))
    assert body["left_out"] == []


def test_an_archive_is_one_step(client: TestClient, project: int) -> None:
    put(client, project, "old.png", picture("green"))
    before = state(client, project)
    files = {f"{number}.png": picture((number, 0, 0)) for number in range(5)} | {"3.txt": "three"}
    assert send(client, project, packed(files)).json()["added"] == 5
    after = state(client, project)
    assert undo(client, project)["done"] == "Undone: 5 photos from an archive."
    assert state(client, project) == before
    client.post(f"/api/projects/{project}/redo")
    assert state(client, project) == after


def test_masks_of_photos_with_one_name_follow_their_folders(client: TestClient, project: int) -> None:
    files = {"img/1_front/A.png": picture("red"), "img/1_back/A.png": picture("blue")}
    one = files | {"mask/1_back/A.png": mask_png((80, 64))}
    assert send(client, project, packed(one)).json()["masks"] == 1
    assert [each["mask"] for each in photos(client, project).values()] == [None, "you"]
    undo(client, project)
    said = send(client, project, packed(files | {"mask/A.png": mask_png((80, 64))})).json()
    assert (said["added"], said["masks"]) == (2, 0)
    assert "may be the mask of" in said["left_out"][0]["message"]


def test_photos_that_are_here_keep_what_they_have_and_take_what_they_lack(client: TestClient, project: int) -> None:
    for name, colour in (("red.png", "red"), ("blue.png", "blue")):
        put(client, project, name, picture(colour))
    client.patch(f"/api/photos/{photos(client, project)['red.png']['id']}", json={"caption": "mine"})
    files = {"a.png": picture("red"), "a.txt": "theirs", "b.png": picture("blue"), "b.txt": "theirs"}
    files |= {"c.png": picture("blue"), "masks/b.png": mask_png((80, 64))}
    said = send(client, project, packed(files)).json()
    assert (said["added"], said["already"], said["captions"], said["masks"]) == (0, 2, 1, 1)
    assert [one["field"] for one in said["left_out"]] == ["c.png"]
    assert "same file as b.png" in said["left_out"][0]["message"]
    found = photos(client, project)
    assert {name: one["caption"] for name, one in found.items()} == {"red.png": "mine", "blue.png": "theirs"}


@pytest.mark.parametrize("layout", ["ai-toolkit", "kohya"])
def test_what_goes_out_comes_in_again(client: TestClient, project: int, layout: str) -> None:
    red = put(client, project, "A.png", picture("red")).json()
    put(client, project, "A.jpg", picture("blue", form="JPEG"))
    aside = put(client, project, "aside.png", picture("green")).json()
    client.patch(f"/api/photos/{aside['id']}", json={"aside": True})
    client.patch(f"/api/photos/{red['id']}", json={"caption": "a red can", "crops": [BOX], "subject": [0, 0, 0.5, 0.5]})
    client.put(f"/api/photos/{red['id']}/mask", content=mask_png((80, 64)))
    answer = client.get(f"/api/projects/{project}/archive?layout={layout}")
    assert answer.headers["content-disposition"] == f'attachment; filename="My-can-{layout}.zip"'
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    names = sorted(archive.namelist())
    if layout == "kohya":
        folder = "img/1_sks can"
        inside = [f"{folder}/{name}" for name in ("A (2).png", "A (2).txt", "A.jpg", "A.txt")]
        assert names == [*inside, "likeness.json", "mask/A (2).png"]
        assert archive.read(f"{folder}/A (2).png") == picture("red"), "the original, untouched"
    else:
        assert names == ["A (2).png", "A (2).txt", "A.jpg", "A.txt", "likeness.json", "masks/A (2).png"]
    other = int(client.post("/api/projects", json=PROJECT).json()["id"])
    said = send(client, other, answer.content).json()
    assert (said["added"], said["captions"], said["masks"], said["left_out"]) == (2, 2, 1, [])
    back = photos(client, other)["A (2).png"]
    assert (back["caption"], back["crops"], back["subject"]["source"]) == ("a red can", [BOX], "you")
    assert mask_of(client, back) == MASK
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert list(home.uploads.iterdir()) == [], "nothing temporary is left"


def test_an_empty_project_has_nothing_to_pack(client: TestClient, project: int) -> None:
    assert "no photos" in problem_of(client.get(f"/api/projects/{project}/archive"), 409)["message"]
    problem_of(client.get(f"/api/projects/{project}/archive?layout=rar"), 422)
    problem_of(client.get("/api/projects/99/archive"), 404)


# ---- archives that are wrong -----------------------------------------------------------------------------------------


def bomb() -> bytes:
    """Small, and unpacks to 300 MB."""
    content = io.BytesIO()
    archive = zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9)
    with archive, archive.open("A.png", "w", force_zip64=True) as file:
        for _ in range(300):
            file.write(bytes(2**20))
    return content.getvalue()


def huge_directory() -> bytes:
    """An archive whose end says that its directory has 3 GB."""
    content = bytearray(packed({"A.png": picture()}))
    at = content.rfind(b"PK\5\6")
    struct.pack_into("<I", content, at + 12, 3 * 2**30)
    return bytes(content)


def overlapping() -> bytes:
    """Two names for one file's bytes, as bombs that no sum of sizes shows have them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("A.png", picture())
        archive.writestr("B.png", picture())
        archive.filelist[1].header_offset = archive.filelist[0].header_offset
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a zip"),
        (b"hello", "not a zip"),
        (picture(), "not a zip"),
        (packed({}), "not a zip|no photos"),
        (packed({"notes.pdf": "x"}), "no photos"),
        (packed({"A.png": picture()}, zipfile.ZIP_STORED)[:-30], "cut off"),
        (packed({"A.png": picture()})[:40], "cut off"),
        (packed({"A.png": "not a photo"}), "None of the photos"),
        (bomb(), "unpacks from"),
        (huge_directory(), "archive's directory has"),
    ],
    ids=["empty", "text", "photo", "nothing", "pdf", "cut", "short", "no photo", "bomb", "directory"],
)
def test_a_wrong_archive_is_a_sentence_and_adds_nothing(
    client: TestClient, project: int, content: bytes, words: str
) -> None:
    message = problem_of(send(client, project, content), 422)["message"]
    assert any(each in message for each in words.split("|")), message
    assert photos(client, project) == {}
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert list(home.uploads.iterdir()) == []
    assert client.get(f"/api/projects/{project}/edits").json() == []


def test_names_that_lead_out_are_left_out_and_the_rest_comes_in(client: TestClient, project: int) -> None:
    files: dict[str, bytes | str] = {
        "../../../evil.png": picture("blue"),
        "/etc/evil.png": picture("green"),
        "C:\\evil.png": picture("white"),
        "good.png": picture("red"),
        "good.pdf": "x",
    }
    said = send(client, project, packed(files)).json()
    assert list(photos(client, project)) == ["good.png"]
    assert len(said["left_out"]) == 4
    assert sum("leads out" in one["message"] for one in said["left_out"]) == 3


def test_links_and_damaged_files_are_left_out_with_a_sentence(client: TestClient, project: int) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("broken.png", picture("blue"))
        archive.writestr("good.png", picture("red"))
        archive.writestr("good.txt", b"\xff\xfe\xff")
        archive.writestr("masks/good.png", mask_png((10, 10)))
        archive.writestr("masks/other.png", mask_png((80, 64)))
    damaged = bytearray(content.getvalue())
    damaged[damaged.find(b"broken.png") + 60] ^= 0xFF  # within its bytes: the checksum does not fit
    said = send(client, project, bytes(damaged)).json()
    assert list(photos(client, project)) == ["good.png"]
    about = {one["field"]: one["message"] for one in said["left_out"]}
    assert "link" in about["link.png"]
    assert "damaged" in about["broken.png"]
    assert "UTF-8" in about["good.txt"]
    assert "10 x 10" in about["masks/good.png"]
    assert "without a photo" in about["masks/other.png"]


@pytest.mark.parametrize("form", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing_is_a_sentence(client: TestClient, project: int, form: int) -> None:
    error = problem_of(send(client, project, packed({"A.png": picture()}, form)), 422)
    assert "ordinary zip" in error["problems"][0]["message"]


def test_an_archive_with_any_byte_changed_is_read_or_a_sentence(tmp_path: Path) -> None:
    chance = random.Random(1)
    inner = {"A.png": b"hello world " * 9, "A.txt": "hello", "masks/A.png": "x"}
    whole, file, read = packed(inner), tmp_path / "a.zip", 0
    sentences: set[str] = set()
    for _ in range(800):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        file.write_bytes(content[: chance.choice([len(content), len(content), chance.randrange(len(content))])])
        try:
            with archives.opened(file) as archive:
                archives.masks_of(archive.contents)
                for name in [*archive.contents.photos, *archive.contents.captions]:
                    archive.unpack(name, tmp_path / "out", 2**20)
                    read += 1
        except DataProblem as problem:
            sentences.add(problem.message)
    assert all(each.endswith(".") for each in sentences)
    assert read > 100


def test_entries_that_overlap_are_no_second_photo(client: TestClient, project: int) -> None:
    answer = send(client, project, overlapping())
    assert answer.status_code in (200, 422)
    assert len(photos(client, project)) <= 1


def test_an_encrypted_archive_says_so(client: TestClient, project: int) -> None:
    content = bytearray(packed({"A.png": picture()}, zipfile.ZIP_STORED))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.find(mark) + offset] |= 1
    error = problem_of(send(client, project, bytes(content)), 422)
    assert fields(error) == ["A.png"]
    assert "encrypted" in error["problems"][0]["message"]

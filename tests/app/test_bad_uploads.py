"""Every kind of file that is no photo, or a strange one: a sentence, the rest kept, nothing half-written."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from core.dataset.photos import BYTES_AT_MOST
from tests.app.conftest import PROJECT, picture, problem_of, put
from tests.core.photo_files import NOT_TIFF, png_with, raw_file
from tests.core.test_photo_memory import large_webp


@pytest.fixture
def project(client: TestClient) -> int:
    return int(client.post("/api/projects", json=PROJECT).json()["id"])


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with next to nothing behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def noisy(form: str = "JPEG") -> bytes:
    import random

    from PIL import Image

    pixels = random.Random(0).randbytes(200 * 200 * 3)
    import io

    content = io.BytesIO()
    Image.frombytes("RGB", (200, 200), pixels).save(content, form)
    return content.getvalue()


BAD = {
    "words.png": (b"This is not an image at all.", "not an image"),
    "empty.jpg": (b"", "0 bytes"),
    "cut.jpg": (noisy()[:5000], "cut off"),
    "cut.png": (noisy("PNG")[:5000], "cut off"),
    "bomb.png": (claiming(30_000, 30_000), "30,000 x 30,000 px"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "SVG"),
    "paper.jpg": (b"%PDF-1.7\n", "PDF"),
    "bundle.jpg": (b"PK\x03\x04" + b"\0" * 100, "zip"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_is_no_photo_is_refused_in_a_sentence(client: TestClient, project: int, name: str) -> None:
    content, words = BAD[name]
    put(client, project, "good.png", picture())
    error = problem_of(put(client, project, name, content), 422)
    assert error["code"] == "data"
    assert name in error["message"]
    assert words in error["message"]
    assert error["problems"][0]["field"] == name
    assert [photo["name"] for photo in client.get(f"/api/projects/{project}/photos").json()] == ["good.png"]
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert len(list(home.photos.iterdir())) == len(list(home.thumbs.iterdir())) == 1
    assert list(home.uploads.iterdir()) == []


def test_200_megabytes_are_refused_by_their_announced_length(client: TestClient, project: int) -> None:
    def many() -> Any:
        for _ in range(200):
            yield bytes(2**20)

    headers = {"Content-Length": str(200 * 2**20)}
    answer = client.put(f"/api/projects/{project}/photos/huge.jpg", content=many(), headers=headers)
    assert "64 MB" in problem_of(answer, 413)["message"]
    assert list(client.app.state.database.home.uploads.iterdir()) == []  # type: ignore[attr-defined]


def test_a_length_that_is_not_announced_is_counted(client: TestClient, project: int) -> None:
    def many() -> Any:
        for _ in range(BYTES_AT_MOST // 2**20 + 2):
            yield bytes(2**20)

    answer = client.put(f"/api/projects/{project}/photos/huge.jpg", content=many())
    assert "64 MB" in problem_of(answer, 413)["message"]
    assert list(client.app.state.database.home.uploads.iterdir()) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name",
    ["x." + "y" * 250, "x" * 300 + "." + "字" * 100, "." + "z" * 400, "a" * 200 + "." + "b" * 119, "e\u0301" * 300],
)
def test_a_name_of_any_length_is_answered_at_once_and_shortened(client: TestClient, project: int, name: str) -> None:
    error = problem_of(put(client, project, name, b"This is not an image at all."), 422)
    assert "is not an image" in error["message"]
    assert len(error["problems"][0]["field"]) <= 120
    taken = put(client, project, name, picture())
    assert taken.status_code == 201
    assert len(taken.json()["name"].encode()) <= 240
    assert all(len(warning) < 200 for warning in taken.json()["warnings"])
    put(client, project, name, picture("blue"))  # the name is taken: a number is put behind it
    names = [photo["name"] for photo in client.get(f"/api/projects/{project}/photos").json()]
    assert len(set(names)) == 2
    huge = client.put(
        f"/api/projects/{project}/photos/{quote(name, safe='')}", headers={"Content-Length": str(BYTES_AT_MOST + 1)}
    )
    assert len(problem_of(huge, 413)["problems"][0]["field"]) <= 120


def test_unreadable_notes_and_raw_files_are_no_bugs(client: TestClient, project: int) -> None:
    assert put(client, project, "notes.png", png_with(NOT_TIFF)).status_code == 201
    assert "camera raw file" in problem_of(put(client, project, "a.dng", raw_file()), 422)["message"]


STRANGE: dict[str, tuple[bytes, str]] = {
    "print.jpg": (picture((0, 0, 0, 0), form="JPEG", mode="CMYK"), "CMYK"),
    "deep.png": (picture(40_000, mode="I;16"), "8 bits"),
    "glass.png": (picture((255, 0, 0, 128), mode="RGBA"), "transparent"),
    "really.jpg": (picture(), "PNG file"),
    "small.png": (picture(size=(40, 30)), "small"),
}


@pytest.mark.parametrize("name", list(STRANGE))
def test_a_strange_photo_is_taken_with_a_warning(client: TestClient, project: int, name: str) -> None:
    content, words = STRANGE[name]
    answer = put(client, project, name, content)
    assert answer.status_code == 201, answer.text
    assert any(words in warning for warning in answer.json()["warnings"]), answer.json()["warnings"]
    assert client.get(answer.json()["thumb_url"]).status_code == 200


def test_a_palette_and_an_animation_are_taken(client: TestClient, project: int) -> None:
    from PIL import Image

    frames = [Image.new("RGB", (300, 300), colour) for colour in ("red", "green")]
    import io

    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    animated = put(client, project, "moves.gif", content.getvalue())
    assert any("2 frames" in warning for warning in animated.json()["warnings"])
    assert put(client, project, "palette.png", picture(3, mode="P")).status_code == 201


def test_a_webp_whose_decoder_would_take_over_a_gigabyte_is_refused(client: TestClient, project: int) -> None:
    error = problem_of(put(client, project, "large.webp", large_webp(10_000)), 422)
    assert "has 10,000 x 10,000 px; a WebP can have 40 million pixels here. Save it as JPEG" in error["message"]
    assert put(client, project, "small.webp", large_webp(30)).status_code == 201


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("..\\..\\windows\\photo.png", "photo.png"),
        ("é.png", "é.png"),
        ("e\u0301.png", "é.png"),
        ("a\u202egnp.exe.png", "agnp.exe.png"),
        ("tab\there\n.png", "tabhere.png"),
        ("x" * 300 + ".png", "x" * 116 + ".png"),
        (".png", "png.png"),
        ("CON.png", "CON_.png"),
        ("写真 1.png", "写真 1.png"),
        ('a<b>:"c".png', "a_b___c_.png"),
    ],
)
def test_odd_file_names_become_good_ones(client: TestClient, project: int, name: str, kept: str) -> None:
    answer = put(client, project, name, picture())
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == kept
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert [path.name for path in home.photos.iterdir()] == [f"{answer.json()['sha256']}.png"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut off"),
        (b"\xff" * 64, "cut off"),
        (struct.pack("<Q", 2) + b"{}", "no LoRA"),
        (struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ', "damaged"),
    ],
)
def test_a_broken_adapter_is_refused_in_a_sentence(client: TestClient, content: bytes, words: str) -> None:
    error = problem_of(client.put("/api/adapters/mine.safetensors", content=content), 422)
    assert error["code"] == "adapter"
    assert "mine.safetensors" in error["message"]
    assert words in error["message"]
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert list(home.adapters.iterdir()) == list(home.uploads.iterdir()) == []


def lora_file(*names: str) -> bytes:
    """A file of 2 x 2 matrices with these names."""
    table = {
        name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * place, 16 * place + 16]}
        for place, name in enumerate(names)
    }
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", 1.0) * 4 * len(names)


@pytest.mark.parametrize(
    "names",
    [
        ("transformer.x_embedder.lora_A.weight", "transformer.x_embedder.lora_B.weight"),
        ("base_model.model.x_embedder.lora_A.default.weight", "base_model.model.x_embedder.lora_B.default.weight"),
        ("lora_unet_double_blocks_3_img_mlp_0.lora_down.weight", "lora_unet_double_blocks_3_img_mlp_0.lora_up.weight"),
    ],
)
def test_adapters_of_other_programs_are_taken_by_their_header(client: TestClient, names: tuple[str, ...]) -> None:
    answer = client.put("/api/adapters/theirs.safetensors", content=lora_file(*names))
    assert (answer.status_code, answer.json()["rank"]) == (201, 2)


def test_what_is_not_understood_of_an_adapter_is_named(client: TestClient) -> None:
    names = (
        "transformer.x_embedder.lora_A.weight",
        "transformer.x_embedder.lora_B.weight",
        "transformer.x_embedder.oft_blocks",
        "lora_te1_b.alpha",
    )
    error = problem_of(client.put("/api/adapters/theirs.safetensors", content=lora_file(*names)), 422)
    assert error["message"].startswith("theirs.safetensors")
    said = {each["field"]: each["message"] for each in error["problems"]}
    assert said.keys() == {"transformer.x_embedder.oft_blocks", "lora_te1_b.alpha"}
    assert "another kind of adapter" in said["transformer.x_embedder.oft_blocks"]
    assert "text encoder" in said["lora_te1_b.alpha"]

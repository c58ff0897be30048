"""Photos as people see them, messages for unreadable ones, crops that never stretch, names that fit anywhere."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image, ImageCms

from core.dataset import crops, latents, names, photos
from core.dataset.batches import Batches, Encoded
from core.dataset.buckets import Bucket
from core.dataset.crops import Box
from core.dataset.examples import Example, read_folder
from core.errors import DataProblem
from core.models.base import Family, Grid
from core.models.load import load_family
from tests.core.subjects import encoded, picture, settings
from tests.tiny import make_model_folder

SQUARE = Bucket(32, 32)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims this size and whose pixels are missing, so that decoding it fails."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_photo_is_told_by_its_content() -> None:
    facts = photos.inspect(encoded(picture(), "JPEG"), "holiday.png")
    assert (facts.width, facts.height, facts.format, facts.extension) == (48, 40, "JPEG", "jpg")
    assert any("is called .png but is a JPEG" in warning for warning in facts.warnings)


def test_orientation_is_applied_when_a_photo_is_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    content = encoded(image, "PNG", exif=exif)
    assert (photos.inspect(content).width, photos.inspect(content).height) == (20, 40)
    seen = photos.open_rgb(content)
    assert seen.size == (20, 40)
    assert seen.getpixel((10, 5)) == (0, 0, 255)
    assert seen.getpixel((10, 35)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "0 bytes"),
        (b"hello, this is text", "is not an image"),
        (b"%PDF-1.7 and more", "a PDF document"),
        (encoded(picture(), "JPEG")[:300], "cut off"),
        (encoded(picture(0, 400, 400))[:-700], "cut off|damaged"),
        (png_of_size(30_000, 30_000), "30,000 x 30,000 px"),
        (png_of_size(15_000, 15_000), "100 million pixels"),
        (encoded(Image.new("RGB", (8, 8))), "at least 16 px"),
    ],
    ids=["empty", "text", "pdf", "cut jpeg", "cut png", "huge side", "too many pixels", "tiny"],
)
def test_what_cannot_be_read_is_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(DataProblem, match=sentence):
        photos.inspect(content)


def test_a_photo_of_200_mb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)  # a hole: no disk is used
    with pytest.raises(DataProblem, match="200 MB; at most 64 MB"):
        photos.inspect(path)


def test_print_colours_become_screen_colours() -> None:
    content = encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG")
    red, green, blue = photos.open_rgb(content).getpixel((16, 16))
    assert red > 200
    assert max(green, blue) < 60
    assert "CMYK" in photos.inspect(content).warnings[0]


def test_sixteen_bit_greys_are_scaled_and_not_clipped() -> None:
    grey = Image.fromarray(np.full((32, 32), 128 * 257, dtype=np.uint16))
    assert photos.open_rgb(encoded(grey)).getpixel((5, 5)) == (128, 128, 128)
    assert any("more than 8 bits" in warning for warning in photos.inspect(encoded(grey)).warnings)


def test_transparent_parts_are_white() -> None:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 16, 32))
    seen = photos.open_rgb(encoded(image))
    assert (seen.getpixel((4, 4)), seen.getpixel((28, 4))) == ((0, 0, 255), (255, 255, 255))


def test_a_palette_with_a_transparent_colour_is_read() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 16, 32))
    seen = photos.open_rgb(encoded(image, "PNG", transparency=0))
    assert (seen.getpixel((4, 4)), seen.getpixel((28, 4))) == ((255, 255, 255), (0, 255, 0))


def test_an_animation_gives_its_first_frame_and_a_warning() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    facts = photos.inspect(content)
    assert facts.frames == 3
    assert any("3 frames; the first one is used" in warning for warning in facts.warnings)
    assert photos.open_rgb(content).getpixel((5, 5)) == (255, 0, 0)


def test_a_colour_profile_is_applied() -> None:
    # A profile whose red is our green: whoever ignores it sees another colour.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    content = encoded(Image.new("RGB", (32, 32), (200, 30, 30)), icc_profile=lab.tobytes())
    assert photos.open_rgb(content).getpixel((5, 5)) == (200, 30, 30)
    strange = encoded(Image.new("RGB", (32, 32), (200, 30, 30)), icc_profile=profile.tobytes())
    assert photos.open_rgb(strange).getpixel((5, 5)) == (200, 30, 30)  # a profile that does not fit is left out


def test_a_heic_photo_that_cannot_be_read_is_called_by_its_name() -> None:
    with pytest.raises(DataProblem, match=r"HEIC|damaged"):
        photos.inspect(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + b"\x00" * 40)


def test_a_thumbnail_fits_its_square_and_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photos.write_thumb(encoded(picture(0, 800, 400), "JPEG", exif=exif), tmp_path / "thumb.jpg", 128)
    with Image.open(tmp_path / "thumb.jpg") as thumb:
        assert thumb.size == (64, 128)
    assert [path.name for path in tmp_path.iterdir()] == ["thumb.jpg"]


def test_a_square_crop_is_the_largest_one_in_the_middle() -> None:
    image = Image.new("RGB", (300, 100), "white")
    image.paste("black", (125, 25, 175, 75))  # a square in the middle
    cut = np.asarray(crops.cut(image, (64, 64)).convert("L")) < 128
    assert abs(int(cut.any(axis=0).sum()) - int(cut.any(axis=1).sum())) <= 1
    assert crops.pixel_box(300, 100, (64, 64)) == (100, 0, 200, 100)
    assert crops.pixel_box(300, 100, (64, 64), Box(0.0, 0.0, 0.5, 1.0)) == (25, 0, 125, 100)
    with pytest.raises(DataProblem, match=r"left and right are 0\.6 and 0\.2"):
        Box(0.6, 0.0, 0.2, 1.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("holiday.JPG", "holiday.JPG"),
        ("IMG.png", "IMG.jpg"),
        ("../../etc/passwd", "passwd.jpg"),
        ("C:\\photos\\me.jpeg", "me.jpeg"),
        ("a\u202egpj.exe", "agpj.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("tab\there\n.jpg", "tabhere.jpg"),
        ("...", "photo.jpg"),
        ("con.jpg", "con_.jpg"),
        ("what?*.jpg", "what__.jpg"),
        ("", "photo.jpg"),
    ],
)
def test_a_file_name_is_made_to_fit_every_system(given: str, expected: str) -> None:
    assert names.clean(given, "jpg") == expected


def test_a_long_name_is_cut_and_a_taken_one_numbered() -> None:
    assert len(names.clean("x" * 500 + ".jpg", "jpg")) == 120
    assert len(names.clean("\u5b57" * 500, "jpg").encode()) <= 240
    assert names.free("a.jpg", ["A.JPG", "a (2).jpg"]) == "a (3).jpg"


def test_a_folder_is_read_and_the_broken_ones_are_named(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    picture(1).save(tmp_path / "b.jpg")
    (tmp_path / "b.txt").write_text("a red disc\n", encoding="utf-8")
    (tmp_path / "c.jpg").write_bytes(b"")
    (tmp_path / "d.png").write_bytes((tmp_path / "a.png").read_bytes())
    found, problems = read_folder(tmp_path, "sks", "can")
    assert [(e.name, e.caption) for e in found] == [("a.png", "a photo of sks can"), ("b.jpg", "a red disc")]
    assert [p.field for p in problems] == ["c.jpg", "d.png"]
    assert "same file as a.png" in problems[1].message


def test_a_folder_without_photos_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="has no photos in it"):
        read_folder(tmp_path, "sks", "can")
    with pytest.raises(DataProblem, match="is not a folder"):
        read_folder(tmp_path / "nowhere", "sks", "can")


def test_latents_are_computed_once_and_kept(family: Family, photos: Path, tmp_path: Path) -> None:
    example = read_folder(photos, "sks", "can")[0][0]
    first = latents.latents_of(family, example, SQUARE, tmp_path / "cache")
    family.encode_photo = None  # a second computation would fail
    assert mx.array_equal(latents.latents_of(family, example, SQUARE, tmp_path / "cache"), first)
    (kept,) = (tmp_path / "cache" / "latents").iterdir()
    kept.write_bytes(kept.read_bytes()[:50])
    with pytest.raises(TypeError):
        latents.latents_of(family, example, SQUARE, tmp_path / "cache")  # a damaged file is made again


def test_another_crop_bucket_or_flip_is_another_latent(family: Family, photos: Path, tmp_path: Path) -> None:
    example = read_folder(photos, "sks", "can")[0][0]
    cut = Example(example.photo, example.sha256, example.caption, Box(0.0, 0.0, 0.5, 0.5))
    wide, tall = Bucket(48, 32), Bucket(32, 48)
    for one, bucket, flip in [
        (example, SQUARE, False), (cut, SQUARE, False), (example, wide, False), (example, tall, False),
        (example, SQUARE, True),
    ]:  # fmt: skip
        latents.latents_of(family, one, bucket, tmp_path / "cache", flip=flip)
    assert len(list((tmp_path / "cache" / "latents").iterdir())) == 5


def test_texts_are_kept_too(family: Family, tmp_path: Path) -> None:
    first = dict(latents.texts_of(family, ["a can", "", "a can"], tmp_path / "cache"))
    family.encode_each = None
    again = dict(latents.texts_of(family, ["", "a can"], tmp_path / "cache"))
    assert list(first) == ["a can", ""]
    assert all(mx.array_equal(again[prompt][name], first[prompt][name]) for prompt in first for name in first[prompt])


def test_texts_that_are_new_are_read_together(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    portions, plain = [], family.encode_each
    family.encode_each = lambda prompts: portions.append(list(prompts)) or plain(prompts)
    monkeypatch.setattr(latents, "TEXTS_AT_ONCE", 2)
    list(latents.texts_of(family, ["two"], tmp_path / "cache"))
    found = dict(latents.texts_of(family, ["one", "two", "three", "four", "one"], tmp_path / "cache"))
    assert portions == [["two"], ["one", "three"], ["four"]]
    assert sorted(found) == ["four", "one", "three", "two"]
    (alone,) = plain(["three"])
    assert all(mx.array_equal(found["three"][name], alone[name]).item() for name in alone)


def test_another_model_finds_nothing_of_the_first_ones(family: Family, photos: Path, tmp_path: Path) -> None:
    example, cache = read_folder(photos, "sks", "can")[0][0], tmp_path / "cache"
    other = load_family(make_model_folder(tmp_path / "other", seed=9))
    mine, its = (latents.latents_of(each, example, SQUARE, cache) for each in (family, other))
    assert not mx.allclose(mine, its)
    mine, its = (dict(latents.texts_of(each, ["a can"], cache))["a can"] for each in (family, other))
    assert not any(mx.allclose(mine[name], its[name]) for name in mine)


def test_families_with_the_same_encoders_keep_their_own(family: Family, photos: Path, tmp_path: Path) -> None:
    example = read_folder(photos, "sks", "can")[0][0]
    for family.name in ("flux1", "another"):
        latents.latents_of(family, example, SQUARE, tmp_path / "cache")
        list(latents.texts_of(family, ["a can"], tmp_path / "cache"))
    assert [len(list((tmp_path / "cache" / kind).iterdir())) for kind in ("latents", "text")] == [2, 2]


def told(number: float) -> dict[str, mx.array]:
    return {"tokens": mx.full((1, 2, 3), number)}


def dataset(count: int, **knobs: object) -> Batches:
    items = [
        Encoded(
            mx.full((1, 4, 2), float(n)),
            mx.full((1, 4, 2), -1.0 - n),
            told(float(n)),
            Grid(2, 2, 2),
            untriggered=told(100.0 + n),
        )
        for n in range(count)
    ]
    return Batches(items, told(-1.0), settings(**knobs), lambda grid: 1.0)


def test_each_photo_comes_once_a_round() -> None:
    batches = dataset(5, seed=3)
    rounds = [[batches.example_at(5 * r + i) for i in range(5)] for r in range(4)]
    assert all(sorted(one) == list(range(5)) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_a_batch_of_two_is_two_batches_of_one() -> None:
    both = dataset(3, batch_size=2).batch(1, 0)
    halves = [dataset(3, batch_size=1, accumulate=2).batch(1, micro) for micro in (0, 1)]
    for name in ("clean_BLC", "noise_BLC", "sigma_B"):
        assert mx.array_equal(getattr(both, name), mx.concatenate([getattr(half, name) for half in halves]))


def test_draws_depend_on_the_step_and_nothing_else() -> None:
    walked = dataset(3, seed=1)
    for step in range(1, 5):
        walked.batch(step, 0)
    assert mx.array_equal(walked.batch(7, 0).noise_BLC, dataset(3, seed=1).batch(7, 0).noise_BLC)
    assert not mx.array_equal(walked.batch(7, 0).noise_BLC, walked.batch(8, 0).noise_BLC)
    assert not mx.array_equal(walked.batch(7, 0).noise_BLC, dataset(3, seed=2).batch(7, 0).noise_BLC)


def test_captions_are_dropped_and_photos_mirrored_as_often_as_asked() -> None:
    batches = dataset(4, caption_dropout=0.25, batch_size=8)
    dropped = mirrored = 0
    for step in range(1, 26):
        batch = batches.batch(step, 0)
        dropped += int((batch.conditioning["tokens"][:, 0, 0] < 0).sum().item())
        mirrored += int((batch.clean_BLC[:, 0, 0] < 0).sum().item())
    assert 30 <= dropped <= 70
    assert 75 <= mirrored <= 125


def test_the_trigger_is_left_out_as_often_as_asked_and_leaves_the_other_draws_alone() -> None:
    plain = dataset(4, batch_size=8, caption_dropout=0.25)
    some = dataset(4, batch_size=8, caption_dropout=0.25, trigger_dropout=0.25)
    untriggered = 0
    for step in range(1, 26):
        one, other = plain.batch(step, 0), some.batch(step, 0)
        first, second = (each.conditioning["tokens"][:, 0, 0].tolist() for each in (one, other))
        changed = [(before, after) for before, after in zip(first, second, strict=True) if before != after]
        assert all(after == 100.0 + before for before, after in changed)
        untriggered += len(changed)
        assert mx.array_equal(one.noise_BLC, other.noise_BLC)
    assert 20 <= untriggered <= 55  # a quarter of those that kept their caption


def test_the_file_a_photo_comes_from_is_never_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(picture(), "JPEG"))
    before = path.read_bytes()
    photos.inspect(path)
    photos.open_rgb(path)
    photos.write_thumb(path, tmp_path / "thumb.jpg", 32)
    assert path.read_bytes() == before


def test_damaged_notes_of_the_camera_do_not_spoil_a_photo() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a long description " * 4
    content = bytearray(encoded(picture(), "JPEG", exif=exif))
    place = content.index(b"Exif") + 18
    content[place : place + 8] = b"\xff" * 8
    assert photos.open_rgb(bytes(content)).size in ((48, 40), (40, 48))


def test_colours_of_a_kind_that_is_not_read_are_a_sentence() -> None:
    with pytest.raises(DataProblem, match=r"a kind \(LAB\) that is not read"):
        photos.inspect(encoded(picture().convert("LAB"), "TIFF"))

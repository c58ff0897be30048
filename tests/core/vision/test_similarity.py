"""Near-duplicates: the frames of a burst are one group, photos of one subject on other ground are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bench import made_photos
from core.pocket.assets import EXAMPLES
from core.vision import similarity
from core.vision.pictures import Floats

PHOTOS = sorted(EXAMPLES.glob("*.jpg"))


def look(photo: Image.Image) -> bytes:
    return similarity.look_of(np.asarray(photo.convert("RGB")))


@pytest.mark.slow
def test_bursts_of_every_photo_are_found_as_groups_of_their_own() -> None:
    rng = np.random.default_rng(5)
    looks, owner = [], []
    for number, path in enumerate(PHOTOS):
        photo = Image.open(path).convert("RGB")
        for frame in [photo, *(made_photos.near_duplicate(photo, rng) for _ in range(3))]:
            looks.append(look(frame))
            owner.append(number)
    groups = similarity.groups(len(looks), similarity.pairs(looks))
    assert [{owner[i] for i in held} for held, _ in groups] == [{number} for number in range(len(PHOTOS))]
    assert [len(held) for held, _ in groups] == [4] * len(PHOTOS)


def test_a_moved_part_makes_another_photo() -> None:
    """As a head that turns: most of the picture is the same."""
    photo = Image.open(PHOTOS[0]).convert("RGB")
    other = photo.copy()
    other.paste(photo.crop((200, 60, 330, 190)).rotate(90), (200, 60))
    assert similarity.likeness(look(photo), look(photo)) == pytest.approx(1, abs=1e-3)
    assert similarity.likeness(look(photo), look(other)) < similarity.ALIKE


def test_flat_pictures_are_compared_without_trouble() -> None:
    grey, black = (look(Image.new("RGB", (80, 60), (each,) * 3)) for each in (128, 0))
    assert similarity.likeness(grey, black) == 0
    assert similarity.pairs([grey, black, grey]) == []
    assert similarity.groups(3, []) == []


def test_a_group_is_as_sure_as_its_weakest_link() -> None:
    groups = similarity.groups(5, [(0, 1, 0.99), (1, 2, 0.93), (0, 2, 0.91), (3, 4, 0.97)])
    assert groups == [([0, 1, 2], 0.93), ([3, 4], 0.97)]


def test_colours_are_those_of_the_subject_and_of_the_background() -> None:
    lab: Floats = np.zeros((10, 10, 3), np.float32)
    lab[...] = (50, 60, 30)
    subject = np.zeros((10, 10), np.bool_)
    subject[2:6, 2:6] = True
    lab[~subject] = (50, -60, 30)
    one = similarity.colours_array(similarity.colours_of(lab, subject))
    other = similarity.colours_array(similarity.colours_of(lab, ~subject))
    assert one[0] @ other[1] == pytest.approx(1)
    assert one[0] @ one[1] == pytest.approx(0)

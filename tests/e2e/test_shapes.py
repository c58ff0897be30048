"""What the page shows of a photo is what is trained: static/js/project/shapes.js computes as core/dataset does."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from core.dataset import buckets, crops, subject_crops
from core.dataset.crops import Box
from tests.e2e.conftest import Studio

SIZES = [(4032, 3024), (3024, 4032), (1000, 1000), (320, 280), (600, 1800), (1800, 600), (73, 71)]
BOXES = [Box(0.4, 0.4, 0.6, 0.7), Box(0.0, 0.1, 0.3, 0.9), Box(0.7, 0.75, 1.0, 1.0), Box(0.05, 0.02, 0.98, 0.99)]
SCRIPT = """async ([sizes, boxes, choices]) => {
  const s = await import("/static/js/project/shapes.js");
  return sizes.flatMap(([w, h]) => boxes.map((box) => {
    const bucket = s.closest(choices, w, h, box);
    const aspect = bucket[0] / bucket[1];
    return { bucket, inside: s.inside(w, h, aspect, box),
      subject: s.subjectCrop(box, w, h, aspect), close: s.closeUp(box, w, h, aspect) };
  }));
}"""


def as_json(box: Box) -> dict[str, float]:
    return {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom}


def same(found: dict[str, float] | None, box: Box | None) -> bool:
    if found is None or box is None:
        return found is None and box is None
    return all(abs(found[name] - value) < 1e-9 for name, value in as_json(box).items())


def test_the_page_crops_as_the_trainer_does(page: Page, studio: Studio) -> None:
    choices = buckets.of_side(512)
    page.goto(studio.url)
    given = [SIZES, [as_json(box) for box in BOXES], [(each.width, each.height) for each in choices]]
    found: list[dict[str, Any]] = page.evaluate(SCRIPT, given)
    cases = [(size, box) for size in SIZES for box in BOXES]
    assert len(found) == len(cases)
    for one, ((width, height), box) in zip(found, cases, strict=True):
        bucket = buckets.closest(choices, width, height, box)
        aspect = bucket.width / bucket.height
        assert one["bucket"] == [bucket.width, bucket.height]
        left, top, right, bottom = crops.pixel_box(width, height, (bucket.width, bucket.height), box)
        inside = [one["inside"][name] for name in ("left", "top", "right", "bottom")]
        expected = [left / width, top / height, right / width, bottom / height]
        assert all(abs(a - b) < 1e-9 for a, b in zip(inside, expected, strict=True))
        assert same(one["subject"], subject_crops.subject_crop(box, (width, height), aspect))
        assert same(one["close"], subject_crops.close_up(box, (width, height), aspect))

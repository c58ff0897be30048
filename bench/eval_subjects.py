"""Does Pocket learn real subjects?  `make eval PHOTOS=DIR`, where DIR holds one folder of photos for each subject.

For each subject: train with the model's default settings and time it; draw 8 pictures of "a photo of sks <class>" and 8
of "sks <class> on the beach" with fixed seeds; find the subject whose photos each is nearest to. The base model without
the adapter draws the same prompts and should be at chance.

    feature    of a 128 px square crop, every pixel weighted by a Gaussian about the centre (sigma a quarter side):
                 colour   histogram over CIE Lab, 4 x 12 x 12 bins (L, a, b)
                 edges    3 x 3 cells x 8 orientations of the lightness gradient, weighted by its size
    distance   chi2(colour) + 0.5 * chi2(edges),   chi2(p, q) = sum (p - q)^2 / (p + q) / 2, each in 0..1
    nearest    the subject with the smallest mean distance to its 2 nearest photos
    leak       of the photos' backgrounds into the pictures on the beach: bench/background_leak.py

The first line printed is the accuracy of the feature itself: each photo is compared with all other photos. With
--against, each subject is trained again with the other settings, and the two are told apart in the table: `--against
find_subjects=off --against background_weight=1` shows what crops and masks of the found subject do. DIR may hold
boxes.json (see bench/eval_vision.py); the leak is measured outside of these boxes, else of those found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.device import backend

backend.prepare()

import numpy as np
from PIL import Image

from app import sheet
from app.terminal.console import print_line
from app.terminal.training import Subject, run, write_pictures
from bench import background_leak
from bench.eval_vision import read_boxes
from core import files
from core.adapters import file as adapter_file
from core.adapters import lora
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset import crops, photos
from core.dataset.crops import Box
from core.dataset.examples import read_folder
from core.errors import Problem
from core.hub import catalog
from core.models.base import Family
from core.models.load import load_family
from core.sampling import draw
from core.vision.found import find_subjects

CLASS_WORDS = {"can": "can", "dog6": "dog", "red_cartoon": "cartoon", "backpack_dog": "backpack"}
PROMPTS = {"plain": "a photo of {} {}", "beach": "{} {} on the beach"}
PICTURES, FIRST_SEED, TRIGGER = 8, 1000, "sks"
BARS = {"plain": 8, "beach": 8}
MINUTES_AT_MOST = 10
SIDE_PX = 128


@dataclass(frozen=True, slots=True)
class Feature:
    """Two histograms of a picture, each summing to 1."""

    colour: np.ndarray
    edges: np.ndarray


def feature_of(picture: Image.Image) -> Feature:
    """The feature described above, of the picture's central square."""
    rgb_HW3 = np.asarray(crops.cut(picture.convert("RGB"), (SIDE_PX, SIDE_PX)), dtype=np.float64) / 255
    lab_HW3 = lab_of(rgb_HW3)
    place = (np.arange(SIDE_PX) + 0.5) / SIDE_PX - 0.5
    weight_HW = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 0.25**2))
    bins, ranges = (4, 12, 12), ((0, 100), (-90, 90), (-90, 90))
    colour, _ = np.histogramdd(lab_HW3.reshape(-1, 3), bins=bins, range=ranges, weights=weight_HW.ravel())
    down_HW, right_HW = np.gradient(lab_HW3[..., 0])
    strength_HW = np.hypot(down_HW, right_HW) * weight_HW
    angle_HW = ((np.arctan2(down_HW, right_HW) % np.pi) / np.pi * 8).astype(int) % 8
    cell = np.minimum(np.arange(SIDE_PX) * 3 // SIDE_PX, 2)
    index_HW = (cell[:, None] * 3 + cell[None]) * 8 + angle_HW
    edges = np.bincount(index_HW.ravel(), weights=strength_HW.ravel(), minlength=72)
    return Feature(colour.ravel() / colour.sum(), edges / max(edges.sum(), 1e-9))


def lab_of(rgb_HW3: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 to CIE Lab (D65)."""
    linear = np.where(rgb_HW3 <= 0.04045, rgb_HW3 / 12.92, ((rgb_HW3 + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def distance(one: Feature, other: Feature) -> float:
    """0 for the same, 1.5 for nothing in common."""

    def chi2(p: np.ndarray, q: np.ndarray) -> float:
        return float(((p - q) ** 2 / np.maximum(p + q, 1e-12)).sum() / 2)

    return chi2(one.colour, other.colour) + 0.5 * chi2(one.edges, other.edges)


def nearest(picture: Feature, known: dict[str, list[Feature]]) -> str:
    """The subject whose two nearest photos are nearest on average."""
    means = {name: np.mean(sorted(distance(picture, each) for each in held)[:2]) for name, held in known.items()}
    return min(means, key=means.__getitem__)


def held_out_accuracy(known: dict[str, list[Feature]]) -> float:
    """The share of photos that are nearest to the other photos of their own subject."""
    hits = [
        nearest(one, {other: [each for each in held if each is not one] for other, held in known.items()}) == name
        for name, items in known.items()
        for one in items
    ]
    return sum(hits) / len(hits)


def drawn(family: Family, config: TrainConfig, prompt: str) -> list[Image.Image]:
    """`PICTURES` pictures of one prompt with the fixed seeds."""
    conditioning, empty = family.encode_text([prompt]), family.encode_text([""])
    side_px, steps, guidance = config.side_px, config.sample_steps, config.sample_guidance
    return [
        draw(
            family,
            conditioning,
            height_px=side_px,
            width_px=side_px,
            steps=steps,
            guidance=guidance,
            seed=FIRST_SEED + index,
            negative_prompt=empty,
        ).image
        for index in range(PICTURES)
    ]


def evaluate(
    folder: Path, known: dict[str, list[Feature]], user: dict[str, Any], out: Path, drawn_boxes: Mapping[str, list[Box]]
) -> dict[str, Any]:
    """Train on one subject, draw, classify, and write its sheet; returns the figures."""
    subject = Subject(TRIGGER, CLASS_WORDS.get(folder.name, folder.name.replace("_", " ")))
    entry = catalog.find("pocket")
    config = resolve(user, entry.defaults).config
    examples, _ = read_folder(folder, subject.trigger, subject.class_word)
    family = load_family(entry.folder)
    prompts = {kind: text.format(subject.trigger, subject.class_word) for kind, text in PROMPTS.items()}
    base = {kind: drawn(family, config, prompt) for kind, prompt in prompts.items()}

    began = time.monotonic()
    ended = run(family, examples, config, out / folder.name, subject, out / "cache")
    seconds = time.monotonic() - began
    lora.attach_factors(family.transformer, adapter_file.read(ended.adapter, family.name).factors, name="subject")
    pictures = {kind: drawn(family, config, prompt) for kind, prompt in prompts.items()}

    def classify(images: Sequence[Image.Image]) -> list[str]:
        return [nearest(feature_of(image), known) for image in images]

    found: dict[str, Any] = {"subject": folder.name, "class_word": subject.class_word, "train_seconds": seconds}
    found |= {"steps": config.steps, "final_loss": ended.final_loss, "nearest": {}, "hits": {}, "base_hits": {}}
    found["leak"] = background_leak.leak(pictures["beach"], base["beach"], _background_of(folder, drawn_boxes))
    for kind in prompts:
        found["nearest"][kind] = classify(pictures[kind])
        found["hits"][kind] = found["nearest"][kind].count(folder.name)
        found["base_hits"][kind] = classify(base[kind]).count(folder.name)
    originals = [photos.open_rgb(path) for path in photos.find(folder)]
    rows = [sheet.Row("photos", [crops.cut(each, (256, 256)) for each in originals[:PICTURES]])]
    for kind, prompt in prompts.items():
        rows += [sheet.Row(prompt, pictures[kind]), sheet.Row(f"base: {prompt}", base[kind])]
    title = f"{folder.name}: {config.steps} steps in {seconds / 60:.1f} min"
    seeds = [f"seed {FIRST_SEED + index}" for index in range(PICTURES)]
    sheet.sheet(title, seeds, rows, side_px=192).save(out / f"{folder.name}.png")
    write_pictures(out / folder.name, config, subject)
    return found


def _background_of(folder: Path, drawn_boxes: Mapping[str, list[Box]]) -> background_leak.Patches:
    paths = photos.find(folder)
    boxes = [drawn_boxes.get(f"{folder.name}/{path.name}", []) for path in paths]
    if not all(boxes):
        found = find_subjects(paths)
        boxes = [each or ([one.box] if one else []) for each, one in zip(boxes, found, strict=True)]
    return background_leak.background_patches(paths, boxes)


def table_of(results: list[dict[str, Any]]) -> str:
    """The results as text, with the required figures in the head."""
    line = "{:<22}{:>10}{:>8}{:>12}{:>12}{:>12}{:>12}{:>8}\n"
    text = line.format("subject", "minutes", "loss", "plain of 8", "beach of 8", "base plain", "base beach", "leak")
    text += line.format(
        "  bar", f"<= {MINUTES_AT_MOST}", "", f">= {BARS['plain']}", f">= {BARS['beach']}", "~ 2", "~ 2", ""
    )
    for each in results:
        text += line.format(
            f"{each['subject']}{', other' if each['other'] else ''}",
            f"{each['train_seconds'] / 60:.1f}",
            f"{each['final_loss']:.3f}",
            *(each["hits"][kind] for kind in PROMPTS),
            *(each["base_hits"][kind] for kind in PROMPTS),
            f"{each['leak']:.1%}",
        )
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description="Train on each subject folder and see whether Pocket learned it.")
    parser.add_argument("photos", type=Path, help="folder with one folder of photos for each subject")
    parser.add_argument("--only", action="append", default=[], help="only this subject; can be given several times")
    parser.add_argument("--out", type=Path, default=Path("eval-out"))
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE", help="another value for a knob")
    parser.add_argument(
        "--against", action="append", default=[], metavar="KNOB=VALUE", help="train again with this value, to compare"
    )
    options = parser.parse_args()
    folders = sorted(path for path in options.photos.iterdir() if path.is_dir())
    known = {folder.name: [feature_of(photos.open_rgb(path)) for path in photos.find(folder)] for folder in folders}
    options.out.mkdir(parents=True, exist_ok=True)
    accuracy = held_out_accuracy(known)
    sys.stdout.write(f"The feature finds the right subject for {accuracy:.0%} of the photos themselves.\n")
    user, other = (dict(pair.split("=", 1) for pair in pairs) for pairs in (options.set, options.against))
    arms = {"": user, "other": user | other} if other else {"": user}
    drawn_boxes = read_boxes(options.photos)
    results = []
    for folder in folders:
        if options.only and folder.name not in options.only:
            continue
        for arm, settings in arms.items():
            sys.stdout.write(f"\n{folder.name} {arm}\n")
            sys.stdout.flush()
            try:
                found = evaluate(folder, known, settings, options.out / arm, drawn_boxes)
            except Problem as problem:
                print_line(f"{folder.name}: {problem}")
                return 1
            results.append(found | {"other": bool(arm)})
            files.write_json(options.out / "results.json", {"photo_accuracy": accuracy, "subjects": results})
    sys.stdout.write(f"\n{table_of(results)}\nSheets and results.json are in {options.out.resolve()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

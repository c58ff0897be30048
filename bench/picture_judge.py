"""A judge of adapters that shares no feature with the studio's own measures, for bench.choice and bench.leak.

    inner   mean and standard deviation over the tokens of Pocket's latent, weighted by a Gaussian about the centre
            (sigma a quarter side); and the edges of bench.eval_subjects: 3 x 3 cells x 8 orientations of the gradient
    outer   mean and standard deviation over the tokens with the rest of the weight
    d(x, y) the root mean square difference of two such features, each number in deviations over the photos and the
            base's pictures; for `inner` plus the chi-square distance of the edges; each in units of its mean

    identity(x)  = (d(base) - d(x)) / (d(base) - d(photos)), d to the photos that the run has not seen: 0 as the base, 1
                   as the subject's photos among themselves
    prompt(x)    = how much nearer outer(x) is to the base's pictures of its prompt ("can in the snow") than to those of
                   the other prompts, relative to the base's own pictures: 1 as the base, 0 no trace of the prompt
    score(x)     = (identity(x) + prompt(x)) / 2

The studio measures with colour histograms or networks (core/vision), on prompts and seeds of its own. A run that has
learned its photos by heart draws them whatever the prompt says, so prompt(x) falls; and it draws those that it was
trained on, so identity(x) with the others falls too.

Shapes   B batch   L tokens   C channels of a token
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
from PIL import Image

from bench.eval_subjects import feature_of
from core import flow
from core.adapters import file as adapter_file
from core.adapters import lora
from core.config.train import TrainConfig
from core.dataset import crops, photos
from core.dataset.examples import Example, read_folder
from core.device import backend
from core.models.base import Conditioning, Family, stacked
from core.sampling import guidance_for, starting_noise, to_image
from core.vision.found import with_subjects

TRIGGER, FIRST_SEED = "sks", 7000
CLASS_WORDS = {"can": "can", "dog6": "dog", "red_cartoon": "cartoon", "backpack_dog": "backpack"}
PROMPTS = ("{} in the snow", "{} in the jungle", "{} on the grass")
"""None of them is a sample prompt. A class word, or trigger and class word, is filled in."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A folder of photos."""

    name: str
    class_word: str
    examples: list[Example]  # with crops and masks


@dataclass(frozen=True, slots=True)
class Seen:
    """The features of a picture."""

    inner: np.ndarray  # (2 C,)
    outer: np.ndarray  # (2 C,)
    edges: np.ndarray  # (72,), sums to 1


def subjects_in(folders: Sequence[Path], config: TrainConfig, multiple: int, cache: Path) -> list[Subject]:
    """Each folder is a subject, or has one folder of photos for each; their subjects are found as a run would."""
    found = []
    for given in folders:
        inner = sorted(path for path in given.iterdir() if path.is_dir())
        for folder in inner or [given]:
            word = CLASS_WORDS.get(folder.name, folder.name.replace("_", " "))
            examples, _ = read_folder(folder, TRIGGER, word)
            if config.find_subjects:
                examples = with_subjects(examples, config, multiple, cache)
            found.append(Subject(folder.name, word, examples))
    return found


def draw(
    family: Family, config: TrainConfig, texts: Sequence[Conditioning], seeds: Sequence[int], steps: int
) -> list[Image.Image]:
    """A picture for each seed, all at once; `texts` are the prompt and the empty one."""
    conditioning, empty = (stacked([each] * len(seeds)) for each in texts)
    grid = family.grid(config.side_px, config.side_px)
    guidance = guidance_for(family, config.sample_guidance)
    l_t = mx.concatenate([starting_noise(grid, seed) for seed in seeds])
    for sigma, following in pairwise(family.drawing_sigmas(steps, grid)):
        sigma_B = mx.full((len(seeds),), sigma, dtype=mx.float32)
        velocity = family.velocity(l_t, sigma_B, conditioning, grid, guidance.embedded).astype(mx.float32)
        if guidance.true > 1:
            away = family.velocity(l_t, sigma_B, empty, grid, guidance.embedded).astype(mx.float32)
            velocity = away + guidance.true * (velocity - away)
        l_t = flow.euler_step(l_t, velocity, sigma, following)
        backend.evaluate(l_t)
    return [to_image(family.decode(l_t[index : index + 1], grid)) for index in range(len(seeds))]


class Adapter:
    """`with Adapter(family, file):` draws with the adapter of a checkpoint."""

    def __init__(self, family: Family, file: Path) -> None:
        self._family, self._file = family, file

    def __enter__(self) -> None:
        factors = adapter_file.read(self._file, self._family.name).factors
        self._adapter = lora.attach_factors(self._family.transformer, factors, name="judged")

    def __exit__(self, *_: object) -> None:
        self._adapter.detach()


class Judge:
    """Scores pictures of one subject."""

    def __init__(
        self, family: Family, config: TrainConfig, subject: Subject, unseen: Sequence[Example], seeds: int, steps: int
    ) -> None:
        """`unseen` are the photos that pictures are compared with. Draws with the base; no adapter is attached."""
        self._family, self._config, self._subject = family, config, subject
        self._texts: dict[str, Conditioning] = {}
        self._seeds, self._steps = [FIRST_SEED + number for number in range(seeds)], steps
        self._photos = [self._seen(_cropped(each, config.side_px)) for each in unseen]
        others = [self._seen(_cropped(each, config.side_px)) for each in subject.examples if each not in unseen]
        self.base = self.pictures(subject.class_word)
        self._places = {prompt: self._seen_all(drawn) for prompt, drawn in self.base.items()}
        pool = [*self._photos, *others, *(each for of in self._places.values() for each in of)]
        self._scale_inner, self._scale_outer = (
            np.maximum(np.stack([getattr(each, name) for each in pool]).std(0), 1e-6) for name in ("inner", "outer")
        )
        self._mean_inner = self._mean_edges = 1.0
        raw = [(self._rms(a, b), _chi2(a, b)) for a, b in zip(pool, pool[1:] + pool[:1], strict=True)]
        self._mean_inner, self._mean_edges = (max(float(np.mean(each)), 1e-6) for each in zip(*raw, strict=True))
        everywhere = [each for of in self._places.values() for each in of]
        self._d_base = float(np.mean([self._to_photos(each) for each in everywhere]))
        among = [self._inner(a, b) for a in self._photos for b in (*others, *self._photos) if a is not b]
        self._d_photos = float(np.mean(among)) if among else 0.0
        follows = [self._nearer(each, prompt, i) for prompt, of in self._places.items() for i, each in enumerate(of)]
        self._follows_base = max(float(np.mean(follows)), 1e-3)

    def pictures(self, words: str) -> dict[str, list[Image.Image]]:
        """By prompt, one for each seed, drawn with what is attached now."""
        texts = ["", *(prompt.format(words) for prompt in PROMPTS)]
        if texts[-1] not in self._texts:
            self._texts |= dict(zip(texts, self._family.encode_each(texts), strict=True))
        return {
            prompt: draw(self._family, self._config, [self._texts[text], self._texts[""]], self._seeds, self._steps)
            for prompt, text in zip(PROMPTS, texts[1:], strict=True)
        }

    def scores(self, pictures: Mapping[str, Sequence[Image.Image]]) -> dict[str, list[float]]:
        """ "identity", "prompt" and "score", each by seed: the mean over the prompts."""
        seen = {prompt: self._seen_all(drawn) for prompt, drawn in pictures.items()}
        identity = [[self.identity(each) for each in of] for of in seen.values()]
        follows = [
            [self._nearer(each, prompt, i) / self._follows_base for i, each in enumerate(of)]
            for prompt, of in seen.items()
        ]
        by_seed = {"identity": np.mean(identity, 0), "prompt": np.mean(follows, 0)}
        by_seed["score"] = (by_seed["identity"] + by_seed["prompt"]) / 2
        return {name: [float(each) for each in values] for name, values in by_seed.items()}

    def moved(self, pictures: Mapping[str, Sequence[Image.Image]]) -> list[float]:
        """How far pictures of the bare class went from the base's of the same seed towards the subject, each: the
        difference of their identities."""
        return [
            self.identity(one) - self.identity(before)
            for prompt, drawn in pictures.items()
            for one, before in zip(self._seen_all(drawn), self._places[prompt], strict=True)
        ]

    def identity(self, one: Seen) -> float:
        gap = max(self._d_base - self._d_photos, 0.05 * self._d_base)
        return (self._d_base - self._to_photos(one)) / gap

    def _nearer(self, one: Seen, prompt: str, seed: int) -> float:
        """How much nearer to the base's pictures of the prompt than of the others, without those of the same seed."""
        apart = {
            place: float(np.mean([self._outer(one, each) for i, each in enumerate(of) if i != seed or len(of) == 1]))
            for place, of in self._places.items()
        }
        own = apart.pop(prompt)
        return float(np.mean(list(apart.values()))) - own

    def _to_photos(self, one: Seen) -> float:
        return float(np.mean([self._inner(one, each) for each in self._photos]))

    def _inner(self, one: Seen, other: Seen) -> float:
        return self._rms(one, other) / self._mean_inner + _chi2(one, other) / self._mean_edges

    def _rms(self, one: Seen, other: Seen) -> float:
        return float(np.sqrt((((one.inner - other.inner) / self._scale_inner) ** 2).mean()))

    def _outer(self, one: Seen, other: Seen) -> float:
        return float(np.sqrt((((one.outer - other.outer) / self._scale_outer) ** 2).mean()))

    def _seen_all(self, drawn: Sequence[Image.Image]) -> list[Seen]:
        return [self._seen(each) for each in drawn]

    def _seen(self, picture: Image.Image) -> Seen:
        pixels_1HWC = mx.array(np.asarray(picture.convert("RGB"), np.float32))[None] / 127.5 - 1
        tokens_LC = np.array(self._family.encode_photo(pixels_1HWC)[0], np.float32)
        side = round(len(tokens_LC) ** 0.5)
        place = (np.arange(side) + 0.5) / side - 0.5
        weight_L = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 0.25**2)).ravel()
        return Seen(_moments(tokens_LC, weight_L), _moments(tokens_LC, 1 - weight_L), feature_of(picture).edges)


def error(values: Sequence[float]) -> float:
    """The standard error of their mean; infinite for one."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("inf")


def _cropped(example: Example, side_px: int) -> Image.Image:
    return crops.cut(photos.open_rgb(example.photo), (side_px, side_px), example.box)


def _moments(tokens_LC: np.ndarray, weight_L: np.ndarray) -> np.ndarray:
    share_L1 = (weight_L / weight_L.sum())[:, None]
    mean_C = (share_L1 * tokens_LC).sum(0)
    return np.concatenate([mean_C, np.sqrt((share_L1 * (tokens_LC - mean_C) ** 2).sum(0))])


def _chi2(one: Seen, other: Seen) -> float:
    return float(((one.edges - other.edges) ** 2 / np.maximum(one.edges + other.edges, 1e-12)).sum() / 2)

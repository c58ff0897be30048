"""Measures the pictures of a step: likeness, the likeness of the bare class, and how the pictures differ.

    prompt with the trigger      seed k = 0: the sample itself;   k = 1 ... : drawn to be measured
    the same without the trigger seed k = 0, 1, ...: drawn to be measured

"a photo of sks can" and "a photo of can", of the first two prompts that have the trigger, with `judged_seeds` seeds:
prompt i with seed sample_seed + i + k * SEED_STEP. What is drawn to be measured alone takes half of a sample's sampler
steps and is not kept; what is compared between two steps of a run was drawn alike.

The features are those of the dataset room: DINOv2's where that model is on this computer, else OpenCV's or Apple's
(core/vision/drawn.py). They are of the network's pictures alone, whatever protects the class in training.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from core.config.train import TrainConfig
from core.dataset import captions
from core.dataset.examples import Example
from core.errors import DataProblem, ModelProblem, PictureProblem
from core.models.base import Conditioning, Family
from core.sampling import drawing, ticks
from core.training.events import Measured, Note
from core.training.likeness import Drawn
from core.vision import analysers, drawn
from core.vision.base import Analyser
from core.vision.results import Analysis

SEED_STEP = 1000  # between two seeds of one prompt; the samples' own are next to each other


def pairs_of(config: TrainConfig, prompts: Sequence[str], trigger: str) -> dict[int, str]:
    """The prompts that are measured: by their place among the run's, the prompt without the trigger."""
    with_trigger = [number for number, prompt in enumerate(prompts) if captions.has_trigger(prompt, trigger)]
    found = {number: captions.without_trigger(prompts[number], trigger) for number in with_trigger}
    return {number: bare for number, bare in list(found.items())[: config.judged_prompts] if bare}


class Judging:
    """Draws what is measured beside the samples, and measures both."""

    def __init__(
        self,
        family: Family,
        config: TrainConfig,
        prompts: Sequence[str],
        bare: Mapping[int, str],
        texts: Mapping[str, Conditioning],
        examples: Sequence[Example],
        held_out: Sequence[int],
        dinov2: Path | None,
    ) -> None:
        """`bare` is from `pairs_of`; `held_out` are places among the examples; `dinov2` the folder of that model."""
        self._family, self._config, self._texts = family, config, texts
        self._prompts, self._bare = prompts, bare
        self._examples, self._held_out, self._dinov2 = examples, held_out, dinov2
        self._with: dict[tuple[int, int], Image.Image] = {}  # by prompt and number of the seed
        self._without: dict[tuple[int, int], Image.Image] = {}
        self._analyser: Analyser | None = None
        self._photos: list[Analysis] = []  # of the examples that can be read
        self._held: list[bool] = []  # which of these are held out

    @property
    def count(self) -> int:
        """Pictures that are drawn at a step, beside the samples."""
        return len(self._bare) * (2 * self._config.judged_seeds - 1)

    def draw(self, samples: Mapping[int, Image.Image]) -> Iterator[None]:
        """Draw the pictures; `samples` are those of the step, by prompt. Yields between two sampler steps."""
        self._with = {(number, 0): samples[number] for number in self._bare if number in samples}
        self._without = {}
        for number, bare in self._bare.items():
            for k in range(self._config.judged_seeds):
                seed = (self._config.sample_seed + number + k * SEED_STEP) % 2**31
                wanted = [(bare, self._without)] + ([(self._prompts[number], self._with)] if k else [])
                for prompt, kept in wanted:
                    picture = yield from self._picture(prompt, seed)
                    if picture is not None:
                        kept[number, k] = picture

    def _picture(self, prompt: str, seed: int) -> Generator[None, None, Image.Image | None]:
        config = self._config
        steps = drawing(
            self._family,
            self._texts[prompt],
            height_px=config.side_px,
            width_px=config.side_px,
            steps=config.judged_steps,
            guidance=config.sample_guidance,
            seed=seed,
            negative_prompt=self._texts[""],
        )
        try:
            return (yield from ticks(steps)).image
        except PictureProblem:
            return None

    def measure(self, step: int) -> Iterator[Measured | Note]:
        """What was drawn, measured; nothing where a picture is missing, since its step would not compare."""
        wanted = [(number, k) for number in self._bare for k in range(self._config.judged_seeds)]
        if not wanted or any(each not in self._with or each not in self._without for each in wanted):
            return
        try:
            yield from self._look_at_photos()
            analyser = self._analyser
            if analyser is None or not self._photos:
                return
            own, bare = (
                [drawn.of_picture(of[each], analyser) for each in wanted] for of in (self._with, self._without)
            )
        except ModelProblem as problem:
            yield Note(f"The pictures of step {step} are not measured. {problem.message}", "warning")
            return
        yield Measured(step, self._figures(step, own, bare))

    def _figures(self, step: int, own: list[Analysis], bare: list[Analysis]) -> Drawn:
        photos_MD, held_M = drawn.subject_features(self._photos), np.array(self._held)
        unseen_MD = photos_MD[held_M] if held_M.any() else photos_MD
        ceiling = among = _among(photos_MD)
        if held_M.any() and not held_M.all():
            ceiling = float(np.mean(drawn.likeness(photos_MD[~held_M], unseen_MD)))
        apart = drawn.distances(drawn.whole_features(self._photos))
        return Drawn(
            step,
            drawn.likeness(drawn.subject_features(own), unseen_MD),
            drawn.likeness(drawn.subject_features(bare), photos_MD),
            drawn.distances(drawn.whole_features(own)),
            (ceiling, among, float(np.mean(apart)) if apart else 0.0),
            bool(held_M.any()),
        )

    def _look_at_photos(self) -> Iterator[Note]:
        """Analyse the photos, once; without DINOv2 where its files cannot be used. Raises ModelProblem."""
        if self._analyser is not None:
            return
        try:
            self._analyser = analysers.best(self._dinov2)
            self._analyse_photos(self._analyser)
        except ModelProblem as problem:
            if self._dinov2 is None:
                raise
            yield Note(f"The pictures are measured without DINOv2: {problem.message}", "warning")
            self._analyser = analysers.best()
            self._analyse_photos(self._analyser)

    def _analyse_photos(self, analyser: Analyser) -> None:
        self._photos, self._held = [], []
        for number, example in enumerate(self._examples):
            try:
                found = drawn.of_photo(example, analyser)
            except DataProblem:  # the trainer has named it
                continue
            self._photos.append(found)
            self._held.append(number in self._held_out)


def _among(photos_MD: drawn.Floats) -> float:
    """The mean likeness of two photos; 1 for a single one."""
    count = len(photos_MD)
    total = float((photos_MD @ photos_MD.T).sum()) - count
    return total / (count * (count - 1)) if count > 1 else 1.0

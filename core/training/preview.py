"""Sample pictures of a run: the same prompts and seeds at step 0 and every `sample_every` steps.

samples/<step>-<prompt_id>.png        prompt i is drawn with seed sample_seed + i
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image

from core.config.train import TrainConfig
from core.dataset import captions
from core.errors import PictureProblem
from core.models.base import Conditioning, Family
from core.sampling import drawing, ticks
from core.training import due
from core.training.background_writer import Work, writing
from core.training.events import Note, Progress, Sampled


@dataclass(frozen=True, slots=True)
class Previews:
    """Draws the samples; the prompts are encoded beforehand, so that the text encoders can be freed."""

    family: Family
    config: TrainConfig
    folder: Path  # the run's
    prompts: tuple[str, ...]
    texts: dict[str, Conditioning]  # of every prompt and of ""
    start: str = ""  # SHA-256 of the adapter file that the run began with
    images: dict[int, Image.Image] = field(default_factory=dict)  # the newest of each prompt

    def missing(self, step: int) -> bool:
        """Whether a picture of `step` is not on disk; a run that was killed while drawing draws them again."""
        return any(not self.file(step, index).is_file() for index in range(len(self.prompts)))

    def file(self, step: int, prompt_id: int) -> Path:
        return self.folder / "samples" / f"{step:06d}-{prompt_id}.png"

    def pictures(self, step: int) -> Iterator[Work | None]:
        """Draw the pictures of `step` one at a time.

        Yields the work that writes each, and None between two sampler steps. A picture that is not finite is a warning
        instead of a file.
        """
        config = self.config
        self.images.clear()
        drawn_with = {"step": step} if step else {"sha256": self.start}
        adapters = [{**drawn_with, "strength": 1.0}] if step or self.start else []
        for prompt_id, prompt in enumerate(self.prompts):
            seed = (config.sample_seed + prompt_id) % 2**31
            steps = drawing(
                self.family,
                self.texts[prompt],
                height_px=config.side_px,
                width_px=config.side_px,
                steps=config.sample_steps,
                guidance=config.sample_guidance,
                seed=seed,
                negative_prompt=self.texts[""],
                about={"prompt": prompt, "negative_prompt": "", "adapters": adapters},
                adapters=[f"this run's adapter at step {step}"] if adapters else (),
            )
            try:
                picture = yield from ticks(steps)
            except PictureProblem as problem:
                yield partial(_warning, f"Sample {prompt_id + 1} of step {step} is left out. {problem.message}")
                continue
            self.images[prompt_id] = picture.image
            target = self.file(step, prompt_id)
            sampled = Sampled(step, prompt_id, prompt, seed, 1.0, target, *picture.image.size, picture.recipe)
            yield writing(picture.image, sampled)


def _warning(text: str) -> Progress:
    return Note(text, "warning")


def is_due(step: int, config: TrainConfig) -> bool:
    """Whether pictures are drawn after `step` without a request."""
    return due.draws(step, config.steps, config.sample_every)


def prompts_of(config: TrainConfig, trigger: str, class_word: str) -> tuple[str, ...]:
    """The run's sample prompts, placeholders filled in. Raises DataProblem."""
    return tuple(captions.fill(prompt, trigger, class_word) for prompt in config.sample_prompts)

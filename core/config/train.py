"""Every knob of a training run: its default, range, unit and sentence, in one place.

The form on the new-run page, the validation of requests, `likeness train --config` and docs/knobs.md all come from
`TrainConfig`, so a knob is added here and nowhere else. core/config/resolve.py merges the values that user, model and
defaults set.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from core.config import layer_ranks
from core.config.choices import BITS, Activations, BasePrecision, Optimizer, Schedule, Shapes, SigmaDraw
from core.config.knob import Knob, knob


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run, as the user may set it."""

    model: str = knob("pocket", "Model", "The base model that learns your subject.", "run", front=True)
    steps: int = knob(
        300, "Steps", "How many updates the adapter gets.", "run", at_least=1, at_most=100_000, unit="steps", front=True
    )
    seed: int = knob(
        0, "Seed", "The same seed, photos and settings give the same adapter.", "run", at_least=0, at_most=2**31 - 1
    )
    side_px: int = knob(
        256, "Picture size",
        "Photos are scaled to the area of a square of this side, and samples are that square; a multiple of 16.",
        "run", at_least=64, at_most=2048, unit="px", front=True,
    )  # fmt: skip
    more_sides_px: tuple[int, ...] = knob(
        (),
        "Further sizes",
        "Train each photo at these sizes too, such as 512 768; multiples of 16.",
        "run",
        at_least=64,
        at_most=2048,
        unit="px",
    )
    shapes: Shapes = knob(
        "as_photographed",
        "Photo shapes",
        "Keep the shape of each photo, from 1:2 to 2:1, or crop it to a square; nothing is ever stretched.",
        "run",
    )
    batch_size: int = knob(
        1,
        "Batch size",
        "Photos per micro-step; a larger batch is smoother and needs more memory.",
        "run",
        at_least=1,
        at_most=64,
    )
    accumulate: int = knob(1, "Accumulation", "Micro-steps averaged into one update.", "run", at_least=1, at_most=256)
    machines: int = knob(
        1, "Machines",
        "Machines that share each update, with one batch each; a single machine computes all batches in turn.",
        "run", at_least=1, at_most=64,
    )  # fmt: skip
    base_precision: BasePrecision = knob(
        "full",
        "Base precision",
        "Precision of the frozen base model; 8, 6 or 4 bits need less memory and change pictures slightly.",
        "run",
    )
    activations: Activations = knob(
        "as_fit",
        "Gradient checkpointing",
        "Keep activations (faster) or recompute them (far less memory, up to a third more time): all are kept, none, "
        "or as many as memory allows (as fit). A resumed run may use another choice.",
        "run",
    )

    rank: int = knob(
        16,
        "Rank",
        "Capacity of the adapter; a higher rank learns more detail and makes a larger file.",
        "adapter",
        at_least=1,
        at_most=layer_ranks.RANK_AT_MOST,
        front=True,
    )
    alpha: float = knob(
        16.0,
        "Alpha",
        "The adapter's output is scaled by alpha / rank; an alpha equal to the rank means 1.",
        "adapter",
        above=0,
        at_most=layer_ranks.ALPHA_AT_MOST,
    )
    targets: str = knob(
        "all_linear",
        "Layers",
        "Layers that get an adapter: all_linear, attention, mlp or another preset that the guide lists for the model; "
        "also module paths, separated by commas, with * as a wildcard.",
        "adapter",
    )
    ranks: str = knob(
        "", "Ranks by layer",
        "Layers with a rank, and optionally an alpha, of their own, such as attention=32, *.ff.*=8:4.",
        "adapter", may_be_empty=True,
    )  # fmt: skip

    optimizer: Optimizer = knob(
        "adamw",
        "Optimizer",
        "How gradients update the adapter. Adafactor and Lion need less memory; Prodigy finds the rate itself.",
        "optimizer",
    )
    learning_rate: float = knob(
        1e-4,
        "Learning rate",
        "Step size of the optimizer. By default Lion takes a third of AdamW's rate, and Prodigy 1: a factor on the "
        "rate that it finds itself, without warm-up or schedule.",
        "optimizer",
        above=0,
        at_most=1.0,
    )
    schedule: Schedule = knob(
        "cosine",
        "Schedule",
        "How the learning rate falls to a tenth: along a cosine, several cosines in a row, a line, or not at all.",
        "optimizer",
    )
    cycles: int = knob(
        3, "Cosine cycles", "Cosines in a row, with the schedule cosine_restarts.", "optimizer", at_least=1, at_most=100
    )
    warmup_steps: int = knob(
        10, "Warm-up", "Steps over which the learning rate rises from zero.",
        "optimizer", at_least=0, at_most=10_000, unit="steps",
    )  # fmt: skip
    weight_decay: float = knob(
        1e-4, "Weight decay", "Pulls the adapter's weights towards zero.", "optimizer", at_least=0, at_most=1
    )
    clip_norm: float = knob(
        1.0, "Gradient clipping",
        "Largest norm of the gradient over the whole adapter; larger ones are scaled down. 0 turns it off.",
        "optimizer", at_least=0, at_most=1000,
    )  # fmt: skip
    ema_decay: float = knob(
        0.0,
        "Weight average (EMA)",
        "Decay of a moving average of the weights, such as 0.99; 0 turns it off. The average is scored, sampled and "
        "saved; training continues from the weights themselves.",
        "optimizer",
        at_least=0,
        at_most=0.9999,
    )

    sigma_draw: SigmaDraw = knob(
        "logit_normal", "Noise levels", "Distribution of the noise levels in training.", "loss"
    )
    train_guidance: float = knob(
        1.0, "Training guidance", "Guidance input of a guidance-distilled model.", "loss", at_least=0, at_most=20
    )
    caption_dropout: float = knob(
        0.05, "Caption dropout", "Share of examples trained with an empty caption.", "loss", at_least=0, at_most=1
    )
    trigger_dropout: float = knob(
        0.0, "Trigger dropout",
        "Share of examples trained without the trigger in the caption, so that the class word alone brings the subject "
        "too; not together with class pictures, which teach the opposite.",
        "loss", at_least=0, at_most=1,
    )  # fmt: skip
    class_pictures: int = knob(
        0, "Class pictures",
        "Pictures of the class, drawn by the base model before training and trained on beside the photos, so that the "
        "model does not forget the class; a step takes about twice as long. 0 turns this off.",
        "loss", at_least=0, at_most=2000, unit="pictures",
    )  # fmt: skip
    class_prompt: str = knob(
        "a photo of {class_word}", "Class prompt", "Prompt and caption of the class pictures.", "loss"
    )
    class_folder: str = knob(
        "", "Own class pictures",
        "Folder of your own pictures of the class, given in full, to train on beside the photos; the base model draws "
        "the class pictures above in addition.",
        "loss", may_be_empty=True,
    )  # fmt: skip
    prior_weight: float = knob(
        1.0, "Prior weight", "Weight of the class pictures in the loss, relative to the photos.",
        "loss", above=0, at_most=10,
    )  # fmt: skip
    class_preservation: float = knob(
        0.0, "Class preservation",
        "Weight of differential output preservation: on each photo's caption without the trigger the model is drawn to "
        "what it predicts without the adapter, so that the class word keeps its meaning, without class pictures; 1 is "
        "a good start. A step takes about XX times as long. 0 turns this off.",
        "loss", at_least=0, at_most=100,
    )  # fmt: skip
    flip: bool = knob(
        False, "Mirror photos",
        "Also train on left-right mirrored photos; not for text, logos or asymmetric subjects.",
        "loss",
    )  # fmt: skip
    find_subjects: bool = knob(
        True, "Find the subject",
        "Keep the subject in the crop of a photo that has no crop of its own; with a background weight below 1 its "
        "outline weighs the loss.", "loss",
    )  # fmt: skip
    background_weight: float = knob(
        1.0, "Background weight",
        "How much the background in a photo's mask counts in the loss beside the subject; 1 counts both alike.",
        "loss", at_least=0, at_most=1,
    )  # fmt: skip

    held_out: str = knob(
        "auto", "Held-out photos",
        "Photos held out to score the run: auto (one of 8 or more), none, a number, or names with commas.",
        "loss",
    )  # fmt: skip
    score_every: int = knob(
        200, "Score every",
        "Score the held-out photos every this many steps, and more often at first: six times within the first "
        "interval and once within the second.",
        "loss", at_least=1, at_most=100_000, unit="steps",
    )  # fmt: skip
    score_draws: int = knob(
        1, "Draws per score",
        "Noise draws for each held-out photo at each of four noise levels; more make the diagnosis more reliable and "
        "scoring slower.",
        "loss", at_least=1, at_most=16,
    )  # fmt: skip

    sample_every: int = knob(
        100, "Sample every", "Draw sample pictures every this many steps, and at step 0; 0 draws none.",
        "samples", at_least=0, at_most=100_000, unit="steps",
    )  # fmt: skip
    save_every: int = knob(
        100, "Save every", "Write a checkpoint every this many steps, and one at the end.",
        "samples", at_least=1, at_most=100_000, unit="steps",
    )  # fmt: skip
    sample_prompts: tuple[str, ...] = knob(
        ("a photo of {trigger} {class_word}", "{trigger} {class_word} on the beach"), "Sample prompts",
        "One picture per prompt, with the same seed every time; one prompt per line.", "samples",
    )  # fmt: skip
    sample_seed: int = knob(
        42, "Sample seed", "Seed of the first prompt; each further prompt adds 1.",
        "samples", at_least=0, at_most=2**31 - 1,
    )  # fmt: skip
    sample_steps: int = knob(
        20, "Sampler steps", "Euler steps from noise to picture.", "samples", at_least=1, at_most=200, unit="steps"
    )
    sample_guidance: float = knob(
        3.5, "Sample guidance", "How strongly a sample picture follows its prompt.", "samples", at_least=0, at_most=20
    )
    judged_seeds: int = knob(
        0, "Judged seeds",
        "Beside the samples, draw the first two prompts with so many seeds, with and without the trigger, to measure "
        "likeness, leak and variety, which the suggested checkpoint goes by; a seed adds the time of two samples to "
        "each round, less one for the first. 0 measures nothing.",
        "samples", at_least=0, at_most=16,
    )  # fmt: skip

    @property
    def base_bits(self) -> int | None:
        """Bits to which the base is quantized when it is loaded; None keeps the compute dtype."""
        return BITS[self.base_precision]

    @property
    def examples_at_once(self) -> int:
        """Examples in a micro-step: photos, as many class pictures where there are any, and as many preserved ones."""
        return self.batch_size * (1 + self.has_class_pictures + (self.class_preservation > 0))

    @property
    def has_class_pictures(self) -> bool:
        """Whether it trains on pictures of the class, drawn ones or the user's own."""
        return self.class_pictures > 0 or bool(self.class_folder)

    @property
    def untriggers(self) -> bool:
        """Whether it needs captions without the trigger."""
        return self.trigger_dropout > 0 or self.class_preservation > 0

    @property
    def judged_prompts(self) -> int:
        """Sample prompts whose pictures are measured, with and without the trigger."""
        return min(len(self.sample_prompts), 2) if self.judged_seeds and self.sample_every else 0

    @property
    def judged_steps(self) -> int:
        """Sampler steps of a picture that is drawn to be measured alone: half of a sample's, or one."""
        return max(self.sample_steps // 2, 1)

    @property
    def highest_rank(self) -> int:
        """The highest rank of any layer."""
        return max([self.rank, *(entry.rank for entry in layer_ranks.read(self.ranks)[0])])

    @property
    def micro_steps(self) -> int:
        """Micro-steps of one step, over all machines."""
        return self.accumulate * self.machines

    @property
    def sides_px(self) -> tuple[int, ...]:
        """Every picture size of the training; the first one is that of the samples."""
        return tuple(dict.fromkeys((self.side_px, *self.more_sides_px)))


GROUPS: dict[str, str] = {
    "run": "Run",
    "adapter": "Adapter",
    "optimizer": "Learning",
    "loss": "Loss and data",
    "samples": "Samples and checkpoints",
}


def knobs() -> dict[str, Knob]:
    """Every knob by name, in the order of `TrainConfig`, with the choices of its `Literal` type."""
    hints = _hints()
    found: dict[str, Knob] = {}
    for each in dataclasses.fields(TrainConfig):
        one: Knob = each.metadata["knob"]
        choices = tuple(str(c) for c in get_args(hints[each.name])) if _is_literal(hints[each.name]) else one.choices
        found[each.name] = dataclasses.replace(one, choices=choices)
    return found


def kind_of(name: str) -> str:
    """ "int", "float", "bool", "str", "choice" "lines" (several strings) or "sizes" (several ints)."""
    hint = _hints()[name]
    if _is_literal(hint):
        return "choice"
    return {tuple[str, ...]: "lines", tuple[int, ...]: "sizes"}.get(hint) or hint.__name__


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(TrainConfig)


def default_of(name: str) -> Any:
    """The knob's own default, without any model's."""
    return getattr(TrainConfig(), name)


def _is_literal(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is Literal

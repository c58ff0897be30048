"""Every knob of a training run: its default, range, unit and sentence, in one place.

The form on the new-run page, the check of what users send, `likeness train --config` and the table in docs/knobs.md
are all drawn from `TrainConfig`. A knob is added here and nowhere else. What a run has for a knob in the end is said in
core/config/resolve.py.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from core.config import layer_ranks
from core.config.knob import Knob, knob

SigmaDraw = Literal["logit_normal", "uniform", "model_shift"]
Optimizer = Literal["adamw", "adafactor", "lion", "prodigy"]
Schedule = Literal["cosine", "cosine_restarts", "linear", "constant"]
BasePrecision = Literal["full", "8-bit", "6-bit", "4-bit"]
BITS: dict[BasePrecision, int | None] = {"full": None, "8-bit": 8, "6-bit": 6, "4-bit": 4}
"""To how many bits a precision packs the base; None leaves it as this computer computes."""
Shapes = Literal["as_photographed", "square"]
Activations = Literal["as_fit", "all", "none"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run, as the user may set it."""

    model: str = knob("pocket", "Model", "The base model that learns your subject.", "run", front=True)
    steps: int = knob(
        300,
        "Steps",
        "How many times the adapter changes.",
        "run",
        at_least=1,
        at_most=100_000,
        unit="steps",
        front=True,
    )
    seed: int = knob(
        0, "Seed", "Same seed, same photos, same settings: the same adapter.", "run", at_least=0, at_most=2**31 - 1
    )
    side_px: int = knob(
        256,
        "Picture size",
        "Photos are scaled to the area of a square of this side, and samples are that square; a multiple of 16.",
        "run",
        at_least=64,
        at_most=2048,
        unit="px",
        front=True,
    )
    more_sides_px: tuple[int, ...] = knob(
        (),
        "Further sizes",
        "Each photo is also trained on at these sizes, such as 512 768; a multiple of 16 each.",
        "run",
        at_least=64,
        at_most=2048,
        unit="px",
    )
    shapes: Shapes = knob(
        "as_photographed",
        "Photo shapes",
        "Whether photos keep their shape, 1:2 to 2:1, or are cut to a square; nothing is ever stretched.",
        "run",
    )
    batch_size: int = knob(
        1, "Batch size", "Photos per micro-step; more is smoother and needs more memory.", "run", at_least=1, at_most=64
    )
    accumulate: int = knob(
        1, "Accumulation", "Micro-steps whose gradients are averaged before one step.", "run", at_least=1, at_most=256
    )
    machines: int = knob(
        1,
        "Machines",
        "How many machines share each micro-step, with a batch of their own each; one alone takes their turns as well.",
        "run",
        at_least=1,
        at_most=64,
    )
    base_precision: BasePrecision = knob(
        "full",
        "Base precision",
        "How exactly the frozen model is held; 8, 6 or 4 bits need less memory and draw a little differently.",
        "run",
    )
    activations: Activations = knob(
        "as_fit",
        "Kept activations",
        "How many blocks keep what they computed until their gradient is taken: as many as fit into memory, all, or "
        "none. The others compute it again, for up to a third more time and far less memory. A run that goes on "
        "may take another choice.",
        "run",
    )

    rank: int = knob(
        16,
        "Rank",
        "How much the adapter can hold; higher fits more and makes a larger file.",
        "adapter",
        at_least=1,
        at_most=layer_ranks.RANK_AT_MOST,
        front=True,
    )
    alpha: float = knob(
        16.0,
        "Alpha",
        "The adapter's output is scaled by alpha / rank; equal to the rank means 1.",
        "adapter",
        above=0,
        at_most=layer_ranks.ALPHA_AT_MOST,
    )
    targets: str = knob(
        "all_linear",
        "Layers",
        "Which layers of the model's blocks get an adapter: all_linear, attention, mlp, or what else the guide names "
        "for the model; also module paths, with commas between them and * for any letters.",
        "adapter",
    )
    ranks: str = knob(
        "",
        "Ranks by layer",
        "Layers with a rank of their own, and an alpha if you like, such as attention=32, *.ff.*=8:4.",
        "adapter",
        may_be_empty=True,
    )

    optimizer: Optimizer = knob(
        "adamw",
        "Optimizer",
        "By which rule gradients change the adapter. Adafactor and Lion remember less; Prodigy finds the rate itself.",
        "optimizer",
    )
    learning_rate: float = knob(
        1e-4,
        "Learning rate",
        "How far one step may move the adapter. Unless you set it, Lion takes a third of AdamW's, and Prodigy 1: a "
        "factor on the rate that it finds, without warm-up and schedule.",
        "optimizer",
        above=0,
        at_most=1.0,
    )
    schedule: Schedule = knob(
        "cosine",
        "Schedule",
        "How the learning rate falls to a tenth: along a cosine, along several in a row, along a line, or not at all.",
        "optimizer",
    )
    cycles: int = knob(
        3,
        "Cosine cycles",
        "How often a cosine with restarts falls; the other schedules do not ask.",
        "optimizer",
        at_least=1,
        at_most=100,
    )
    warmup_steps: int = knob(
        10,
        "Warm-up",
        "Steps over which the learning rate rises from zero.",
        "optimizer",
        at_least=0,
        at_most=10_000,
        unit="steps",
    )
    weight_decay: float = knob(
        1e-4, "Weight decay", "Pulls the adapter's weights towards zero.", "optimizer", at_least=0, at_most=1
    )
    clip_norm: float = knob(
        1.0,
        "Gradient limit",
        "Gradients are scaled down to this norm, over the whole adapter; 0 turns it off.",
        "optimizer",
        at_least=0,
        at_most=1000,
    )
    ema_decay: float = knob(
        0.0,
        "Averaged weights",
        "How much of the average over earlier steps each step keeps, such as 0.99; 0 turns it off. The average is "
        "scored, drawn and saved; training goes on from the weights themselves.",
        "optimizer",
        at_least=0,
        at_most=0.9999,
    )

    sigma_draw: SigmaDraw = knob("logit_normal", "Noise levels", "How often each amount of noise is practised.", "loss")
    train_guidance: float = knob(
        1.0,
        "Training guidance",
        "The guidance value a guidance-distilled model is told while it trains.",
        "loss",
        at_least=0,
        at_most=20,
    )
    caption_dropout: float = knob(
        0.05, "Caption dropout", "Share of photos trained with an empty caption.", "loss", at_least=0, at_most=1
    )
    trigger_dropout: float = knob(
        0.0,
        "Trigger dropout",
        "Share of photos trained with the trigger left out of their caption, so that the class word alone brings the "
        "subject too; not together with class pictures, which teach the opposite.",
        "loss",
        at_least=0,
        at_most=1,
    )
    class_pictures: int = knob(
        0,
        "Class pictures",
        "Pictures of the class that the untouched model draws first, and that are trained on beside the photos so that "
        "it does not forget what it knew; a step takes about twice as long. 0 turns this off.",
        "loss",
        at_least=0,
        at_most=2000,
        unit="pictures",
    )
    class_prompt: str = knob(
        "a photo of {class_word}", "Class prompt", "What the class pictures are drawn from; their caption.", "loss"
    )
    prior_weight: float = knob(
        1.0,
        "Prior weight",
        "How much the class pictures count in the loss, against the photos.",
        "loss",
        above=0,
        at_most=10,
    )
    flip: bool = knob(
        False,
        "Mirror photos",
        "Also train on left-right mirrored photos; not for text, logos or asymmetric things.",
        "loss",
    )

    held_out: str = knob(
        "auto",
        "Held-out photos",
        "Photos kept to score the run on: auto (one, from 8 on), none, a number, or names with commas.",
        "loss",
    )
    score_every: int = knob(
        200,
        "Score every",
        "Score the held-out photos every this many steps, six times in the first of these stretches, and once in the "
        "second.",
        "loss",
        at_least=1,
        at_most=100_000,
        unit="steps",
    )
    score_draws: int = knob(
        1,
        "Draws per score",
        "Scorings of each held-out photo at each of four amounts of noise, each with noise of its own: with more the "
        "words come nearer to the truth, and take longer.",
        "loss",
        at_least=1,
        at_most=16,
    )

    sample_every: int = knob(
        100,
        "Sample every",
        "Draw sample pictures every this many steps, and at step 0; 0 draws none.",
        "samples",
        at_least=0,
        at_most=100_000,
        unit="steps",
    )
    save_every: int = knob(
        100,
        "Save every",
        "Write a checkpoint every this many steps; one is always written at the end.",
        "samples",
        at_least=1,
        at_most=100_000,
        unit="steps",
    )
    sample_prompts: tuple[str, ...] = knob(
        ("a photo of {trigger} {class_word}", "{trigger} {class_word} on the beach"),
        "Sample prompts",
        "One picture each, with the same seed every time; one prompt per line.",
        "samples",
    )
    sample_seed: int = knob(
        42,
        "Sample seed",
        "The first prompt's seed; the next prompt takes the next number.",
        "samples",
        at_least=0,
        at_most=2**31 - 1,
    )
    sample_steps: int = knob(
        20, "Sampler steps", "Euler steps from noise to picture.", "samples", at_least=1, at_most=200, unit="steps"
    )
    sample_guidance: float = knob(
        3.5, "Sample guidance", "How strongly a sample picture follows its prompt.", "samples", at_least=0, at_most=20
    )

    @property
    def base_bits(self) -> int | None:
        """To how many bits the base is quantized while it is loaded; None leaves it whole."""
        return BITS[self.base_precision]

    @property
    def examples_at_once(self) -> int:
        """How many examples a micro-step holds: photos, and where there are class pictures as many of them."""
        return self.batch_size * (2 if self.class_pictures else 1)

    @property
    def highest_rank(self) -> int:
        """Of any layer."""
        return max([self.rank, *(entry.rank for entry in layer_ranks.read(self.ranks)[0])])

    @property
    def micro_steps(self) -> int:
        """Forward and backward passes of one step, over all machines."""
        return self.accumulate * self.machines

    @property
    def sides_px(self) -> tuple[int, ...]:
        """Every picture size that the photos are trained at, the first being the samples' own."""
        return tuple(dict.fromkeys((self.side_px, *self.more_sides_px)))


GROUPS: dict[str, str] = {
    "run": "Run",
    "adapter": "Adapter",
    "optimizer": "Learning",
    "loss": "Loss and data",
    "samples": "Samples and checkpoints",
}


def precision_of(bits: int | None) -> BasePrecision:
    """The knob's word for a base of so many bits; the inverse of `BITS`."""
    return next(name for name, each in BITS.items() if each == bits)


def knobs() -> dict[str, Knob]:
    """Every knob by name, in the order of `TrainConfig`; choices of a `Literal` type filled in."""
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
    """The knob's default before any model has its say."""
    return getattr(TrainConfig(), name)


def _is_literal(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is Literal

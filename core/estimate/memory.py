"""Before a run: how much memory and disk it will need, whether this computer has them, and which settings do.

    reading captions    one layer of a text encoder                          + what all texts have become
    encoding photos     the VAE, and its widest activations                  + what all texts have become
    training            base + adapter (A and B, their gradient, what the optimizer remembers, the average)
                        + the input of every block + the activations of those that keep them, and of the one at work
                          or, where that is more, all of the adapter but its gradient again: an update writes it anew
    drawing samples     base + adapter + the VAE with its widest activations, or one evaluation of the network
    disk                checkpoints, cached latents, samples, class pictures

A run needs its largest phase. What a block keeps of a token is counted as a multiple of the token's width; the
multiples follow from what a block computes (q, k, v, the MLP's inner values ...) and were fitted to measured runs.
`python -m bench.memory_estimate` measures other ones, and says how far off the forecast is.

Units   bytes everywhere, but widths in numbers and lengths in tokens
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.config.optimizer_defaults import TRAITS
from core.config.train import TrainConfig
from core.device.hardware import Computer
from core.estimate.architecture import Anatomy, Stack

GIB = 2**30
PATCH_PX = 16  # pixels of a token's side
SHARE_TO_FILL = 0.85  # of the memory, with kept activations: a forecast can be off by so much
GROUP = 64  # numbers of a packed weight that share a scale and a bias
SPARE_DISK = GIB  # that a run should leave
WHOSE = {"metal": "of this Mac's memory", "cuda": "of the card's memory", "cpu": "of this computer's memory"}
BASES = {"full": "the whole base", "8-bit": "an 8-bit base", "6-bit": "a 6-bit base", "4-bit": "a 4-bit base"}


@dataclass(frozen=True, slots=True)
class Needs:
    """The most bytes that each phase of a run holds at once, and what it leaves on the disk."""

    reading: int
    encoding: int
    training: int
    drawing: int
    disk: int

    @property
    def memory(self) -> int:
        return max(self.reading, self.encoding, self.training, self.drawing)

    @property
    def most(self) -> str:
        """Which phase it is."""
        phases = {
            "reading captions": self.reading, "encoding photos": self.encoding, "training": self.training,
            "drawing samples": self.drawing,
        }  # fmt: skip
        return max(phases, key=lambda name: phases[name])


@dataclass(frozen=True, slots=True)
class Multiples:
    """How many times as wide as a token all that is kept of it is, by kind of device; fitted to measured runs."""

    kept: Mapping[str, float]  # by "family kind": what a block leaves for its gradient
    working: float  # what a block's gradient needs besides, as a share of what it leaves
    working_lean: float  # the same where not all blocks keep their activations
    encode: float  # of the VAE, for each pixel and channel at the full resolution
    decode: float
    strip: float  # the same of a strip, which is all that a layer has in the making
    velocity: float  # one evaluation of the network, when nothing is kept
    ahead: int  # bytes of a network's evaluation that the device was told of and has not come to
    ahead_kept: int  # the same of a gradient whose activations are kept, at most
    ahead_unpacked: int  # and of weights that are unpacked for it, at most
    scores: float  # times B H S S, where attention's gradient is not fused
    batches: bool  # whether a batch is at work at once also where not all blocks keep their activations


CPU = Multiples(
    kept={
        "flux1 double": 22.5, "flux1 single": 25.0, "flux2 double": 24.0, "flux2 single": 26.0, "z_image layer": 27.0,
    },
    working=0.5, working_lean=0.2, encode=4.1, decode=4.1, strip=8.7, velocity=20.0, ahead=0, ahead_kept=0,
    ahead_unpacked=0, scores=1.0, batches=False,
)  # fmt: skip
GPU = Multiples(
    kept={
        "flux1 double": 27.0, "flux1 single": 27.0, "flux2 double": 32.0, "flux2 single": 32.0, "z_image layer": 30.0,
    },
    working=2.0, working_lean=2.0, encode=4.0, decode=5.5, strip=8.7, velocity=20.0, ahead=GIB,
    ahead_kept=7 * GIB // 2, ahead_unpacked=5 * GIB // 2, scores=0.0, batches=True,
)  # fmt: skip
STRIP_AT_MOST = 16 * 2**20  # bytes of the picture's rows that a layer of the VAE takes at a time
SCORES_AT_MOST = 32 * 2**20  # bytes; where a block has more, attention goes in chunks (core/numerics/attention.py)
CHUNK = 8 * 2**20  # bytes of one
CHUNKS, CHUNKS_LEAN = 10, 3  # how many are there at once, and where not all blocks keep their activations


def needs(anatomy: Anatomy, config: TrainConfig, computer: Computer, photos: int) -> Needs:
    """What a run on so many photos will need with these settings."""
    item, of = computer.item, multiples(computer)
    tokens = (config.side_px // PATCH_PX) ** 2
    texts = photos + len(config.sample_prompts) + 1  # captions, prompts, and the empty one
    told = item * texts * anatomy.text_tokens * anatomy.text_width
    held = told + _base(anatomy, config.base_bits, item) + adapter_bytes(anatomy, config)
    vae = 4 * anatomy.vae
    narrow, wide = (4 * width * max(config.sides_px) ** 2 for width in anatomy.vae_widths)
    evaluation = of.velocity * (tokens + anatomy.text_tokens) * max(stack.width for stack in anatomy.stacks) * item
    if config.base_bits is not None:
        evaluation += item * max(stack.parameters for stack in anatomy.stacks)  # one block unpacked
    evaluation += of.ahead
    return Needs(
        reading=int(told + item * anatomy.layer),
        encoding=int(told + vae + of.encode * narrow + of.strip * _strip(narrow)),
        training=int(held + training(anatomy, config, computer, kept_blocks(anatomy, config, computer))),
        drawing=int(held + vae + max(of.decode * wide + of.strip * _strip(wide), evaluation)),
        disk=_disk(anatomy, config, photos),
    )


def training(anatomy: Anatomy, config: TrainConfig, computer: Computer, kept: int) -> float:
    """What a step takes besides what is held: its gradient with the activations of `kept` blocks, or its update."""
    item, of, blocks = computer.item, multiples(computer), _blocks(anatomy)
    lean = len(blocks) - kept
    batch = config.examples_at_once if of.batches or not lean else 1
    activations = [_activations(anatomy, stack, config, computer, batch) for stack in blocks]
    tokens = (max(config.sides_px) // PATCH_PX) ** 2 + anatomy.text_tokens
    inputs = lean * batch * tokens * max(stack.width for stack in anatomy.stacks) * item
    stacked = (config.examples_at_once - 1) * anatomy.text_tokens * anatomy.text_width * item
    largest = max(activations)
    if config.base_bits is not None:
        largest += item * max(o * i for stack in anatomy.stacks for i, o in stack.linear)  # one layer unpacked
    at_work = largest * (1 + of.working_lean if lean else of.working)
    if any(_scores(anatomy, stack, config, computer, batch) > SCORES_AT_MOST for stack in anatomy.stacks):
        at_work += CHUNK * (CHUNKS_LEAN if lean else CHUNKS)
    whole = sum(activations[lean:])
    ahead = min(of.ahead_kept, whole)
    if kept and config.base_bits is not None:
        ahead += min(of.ahead_unpacked, item * anatomy.transformer)
    numbers = 4 * adapter_numbers(anatomy, config)
    one_by_one = numbers if batch < config.examples_at_once else 0  # an example's gradient beside the sum
    gradient = stacked + inputs + whole + ahead + at_work + one_by_one
    return numbers + max(gradient, adapter_bytes(anatomy, config))


def kept_blocks(anatomy: Anatomy, config: TrainConfig, computer: Computer) -> int:
    """How many blocks, from the last one, keep their activations: as many as there is memory for, all or none."""
    count = len(_blocks(anatomy))
    if config.activations != "as_fit":
        return count if config.activations == "all" else 0
    held = _base(anatomy, config.base_bits, computer.item) + adapter_bytes(anatomy, config)
    budget = computer.memory * SHARE_TO_FILL - held
    return next((k for k in range(count, 0, -1) if training(anatomy, config, computer, k) <= budget), 0)


def adapter_numbers(anatomy: Anatomy, config: TrainConfig) -> int:
    """Numbers in A and B, on every linear layer of the blocks, each at the highest rank of any: never too few.

    Modulation is counted where layers are named by their paths; no preset has it.
    """
    return config.highest_rank * sum(i + o for i, o in _adapted(anatomy, config))


def _adapted(anatomy: Anatomy, config: TrainConfig) -> list[tuple[int, int]]:
    """(in, out) of the layers that may get an adapter: the longer sides of A and B."""
    by_path = any(sign in config.targets for sign in ".*?[")
    of_block = ((*stack.linear, *(stack.others if by_path else ())) for stack in _blocks(anatomy))
    return [sides for layers in of_block for sides in layers]


def adapter_bytes(anatomy: Anatomy, config: TrainConfig) -> int:
    """w, what the optimizer remembers, and the average if there is one, in bytes."""
    traits, numbers = TRAITS[config.optimizer], adapter_numbers(anatomy, config)
    adapted = _adapted(anatomy, config)
    sides = sum(i + o for i, o in adapted) + 2 * config.highest_rank * len(adapted) if traits.sides else 0
    return 4 * (numbers * (1 + traits.remembered + (config.ema_decay > 0)) + sides)


def multiples(computer: Computer) -> Multiples:
    return CPU if computer.device == "cpu" else GPU


def _strip(plane: int) -> float:
    """Bytes of one strip of a picture's widest array."""
    return plane / -(-plane // STRIP_AT_MOST)


def _blocks(anatomy: Anatomy) -> list[Stack]:
    return [stack for stack in anatomy.stacks for _ in range(stack.count)]


def _activations(anatomy: Anatomy, stack: Stack, config: TrainConfig, computer: Computer, batch: int) -> float:
    """What one block leaves for its gradient; scores in chunks it does not leave."""
    of = multiples(computer).kept[f"{anatomy.family} {stack.kind}"]
    scores = _scores(anatomy, stack, config, computer, batch)
    seen = _seen(anatomy, stack, config)
    return batch * seen * stack.width * computer.item * of + (scores if scores <= SCORES_AT_MOST else 0)


def _scores(anatomy: Anatomy, stack: Stack, config: TrainConfig, computer: Computer, batch: int) -> float:
    """Bytes of a block's scores where its attention is not fused."""
    return multiples(computer).scores * batch * stack.heads * _seen(anatomy, stack, config) ** 2 * computer.item


def _seen(anatomy: Anatomy, stack: Stack, config: TrainConfig) -> int:
    """The tokens of a block."""
    return (max(config.sides_px) // PATCH_PX) ** 2 * stack.image + anatomy.text_tokens * stack.text


def _base(anatomy: Anatomy, bits: int | None, item: int) -> float:
    if bits is None:
        return anatomy.transformer * item
    packed = sum(
        stack.count * sum(i * o for i, o in (*stack.linear, *stack.others) if i % GROUP == 0)
        for stack in anatomy.stacks
    )
    return packed * (bits / 8 + 2 * item / GROUP) + (anatomy.transformer - packed) * item


def _disk(anatomy: Anatomy, config: TrainConfig, photos: int) -> int:
    """Checkpoints (the adapter in 16 bits, and all of it as trained), cached latents and texts, pictures."""
    checkpoint = 2 * adapter_numbers(anatomy, config) + adapter_bytes(anatomy, config)
    checkpoints = math.ceil(config.steps / config.save_every) * checkpoint
    rounds = config.steps // config.sample_every + 1 if config.sample_every else 0
    class_sides = config.class_pictures * max(config.sides_px) ** 2
    pictures = 2 * (rounds * len(config.sample_prompts) * config.side_px**2 + class_sides)
    photo_sides = photos * (1 + config.flip) * sum(side**2 for side in config.sides_px)
    latents = (photo_sides + class_sides) / PATCH_PX**2 * 128 * 4
    texts = (photos + len(config.sample_prompts)) * anatomy.text_tokens * anatomy.text_width * 4
    return int(checkpoints + pictures + latents + texts)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Whether a run fits, in a sentence with the numbers, and the nearest settings that do when it does not."""

    memory: int  # bytes, of its largest phase
    memory_there: int
    disk: int
    disk_there: int
    fits: bool
    sentence: str
    offer: dict[str, Any] | None  # knobs to change
    offer_words: str


def forecast(anatomy: Anatomy, config: TrainConfig, computer: Computer, photos: int) -> Forecast:
    """What a run with these settings needs against what this computer has."""
    needed = needs(anatomy, config, computer, photos)
    memory, disk = fits_memory(needed, computer), fits_disk(needed, computer)
    sentence = (
        f"Needs about {gib(needed.memory)} GB {WHOSE[computer.device]}, most of it while {needed.most}; "
        f"there are {gib(computer.memory)} GB. On the disk it takes {gib(needed.disk)} of {gib(computer.disk)} GB."
    )
    numbers = (needed.memory, computer.memory, needed.disk, computer.disk)
    if memory and disk:
        return Forecast(*numbers, True, sentence, None, "")
    for changes in _gentler(config) if not memory else _fewer_files(config):
        after = needs(anatomy, replace(config, **changes), computer, photos)
        if fits_memory(after, computer) and (disk or fits_disk(after, computer)):
            words = f"{spoken(changes)}: {gib(after.memory)} GB of memory, {gib(after.disk)} GB on the disk."
            return Forecast(*numbers, False, sentence, changes, words)
    return Forecast(*numbers, False, sentence, None, nothing_fits(memory))


def nothing_fits(memory: bool) -> str:
    """What is said where no settings help; `memory`: whether that suffices."""
    return f"No settings of this model fit; it takes {'more free space' if memory else 'a smaller model'}."


def fits_memory(needed: Needs, computer: Computer) -> bool:
    return needed.memory <= computer.memory


def fits_disk(needed: Needs, computer: Computer) -> bool:
    return needed.disk + SPARE_DISK <= computer.disk


def _gentler(config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Changes that need less memory, those that cost a picture the least first."""
    changes: dict[str, Any] = {}
    if config.activations == "all":
        changes["activations"] = "as_fit"
        yield dict(changes)
    if config.batch_size > 1:
        changes |= {"batch_size": 1, "accumulate": config.accumulate * config.batch_size}
        yield dict(changes)
    for precision in ("8-bit", "6-bit", "4-bit"):
        if config.base_bits is None or int(precision[0]) < config.base_bits:
            changes["base_precision"] = precision
            yield dict(changes)
    for side in (1024, 768, 512, 384, 256):
        if side < max(config.sides_px):
            changes |= {"side_px": min(side, config.side_px), "more_sides_px": ()}
            yield dict(changes)


def _fewer_files(config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Changes that write less."""
    for rarer in (2, 5, 10):
        yield {"save_every": min(config.save_every * rarer, config.steps)}


def spoken(changes: Mapping[str, Any]) -> str:
    """Settings that do, as the start of a sentence."""
    words = {
        "activations": lambda _: "only as many activations kept as fit",
        "batch_size": lambda value: f"batch {value}",
        "accumulate": lambda value: f"accumulation {value}",
        "base_precision": lambda value: BASES[value],
        "side_px": lambda value: f"{value} px",
        "more_sides_px": lambda _: "one size",
        "save_every": lambda value: f"a checkpoint every {value} steps",
    }
    said = ", ".join(words[name](value) for name, value in changes.items())
    return f"It fits with {said}"


def gib(count: int) -> str:
    """In the GB that people read on their computers: two digits that matter."""
    size = count / GIB
    return f"{size:.0f}" if size >= 10 else f"{size:.1f}"

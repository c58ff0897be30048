"""Forecast of a run's memory and disk, whether this computer has them, and settings that fit where it has not.

    text_encoding     one layer of a text encoder                    + the conditionings of all texts
    photo_encoding    the VAE and its activations (vae.py)           + the conditionings of all texts
    training          base + adapter (A, B, their gradient, the optimizer's state, the weight average)
                      + the input of every block + the activations that are kept + the block being computed
                        or, when that is more, the adapter a second time: an update writes new arrays
    drawing           base + adapter + the VAE with its activations, or one evaluation of the network
    disk              checkpoints, cached latents, samples, class pictures

A run needs as much as its largest phase. The activations of a block are a multiple of tokens x width; the multiples
follow from what a block computes (q, k, v, the MLP's inner values ...) and are fitted to measured runs.
`python -m bench.memory_estimate` measures other runs and prints the error of the forecast.

Units   bytes, except widths, which are counts of numbers, and lengths, which are counts of tokens
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.config.optimizer_defaults import TRAITS
from core.config.train import TrainConfig
from core.device.hardware import Computer
from core.device.units import GIB, disk_size, memory_size
from core.device.working_set import CHUNK_ON_CPU, SCORES_AT_MOST
from core.estimate.architecture import Architecture, Stack
from core.estimate.vae import peak

PATCH_PX = 16  # pixels of a token's side
SHARE_TO_FILL = 0.85  # of the memory with kept activations; the rest is the forecast's margin of error
QUANTIZATION_GROUP = 64  # numbers of a packed weight that share a scale and a bias
SPARE_DISK = GIB  # that a run should leave free
WHOSE = {"metal": "of this Mac's memory", "cuda": "of the card's memory", "cpu": "of this computer's memory"}
BASES = {"full": "the whole base", "8-bit": "an 8-bit base", "6-bit": "a 6-bit base", "4-bit": "a 4-bit base"}


@dataclass(frozen=True, slots=True)
class Needs:
    """Peak bytes of each phase of a run, and the bytes that it writes to the disk."""

    text_encoding: int
    photo_encoding: int
    training: int
    drawing: int
    disk: int

    @property
    def memory(self) -> int:
        return max(self.text_encoding, self.photo_encoding, self.training, self.drawing)

    @property
    def largest_phase(self) -> str:
        phases = {
            "reading captions": self.text_encoding, "encoding photos": self.photo_encoding, "training": self.training,
            "drawing samples": self.drawing,
        }  # fmt: skip
        return max(phases, key=lambda name: phases[name])


@dataclass(frozen=True, slots=True)
class Multiples:
    """Fitted to measured runs on one kind of device; `activations`, `velocity` times tokens x width x bytes."""

    activations: Mapping[str, float]  # that a block keeps for its gradient, by "family kind"
    working: float  # of the block whose gradient is computed, as a share of its activations
    working_recompute: float  # the same when some blocks recompute their activations
    velocity: float  # one evaluation of the network, with nothing kept
    queued: int  # bytes of a network evaluation that the device has queued and not started
    queued_gradient: int  # the same of a gradient with kept activations, at most
    queued_unpacked: int  # and of weights that are unpacked for it, at most
    scores: float  # times B H S S, where attention's gradient is not fused
    batches: bool  # whether a batch is computed at once although blocks recompute their activations


CPU = Multiples(
    activations={
        "flux1 double": 22.5, "flux1 single": 25.0, "flux2 double": 24.0, "flux2 single": 26.0, "z_image layer": 27.0,
        "chroma double": 22.5, "chroma single": 25.0, "flux3 mode": 26.0, "flux3 single": 26.0,
    },
    working=0.5, working_recompute=0.2, velocity=20.0, queued=0, queued_gradient=0,
    queued_unpacked=0, scores=1.0, batches=False,
)  # fmt: skip
GPU = Multiples(
    activations={
        "flux1 double": 27.0, "flux1 single": 27.0, "flux2 double": 32.0, "flux2 single": 32.0, "z_image layer": 30.0,
        "chroma double": 27.0, "chroma single": 27.0, "flux3 mode": 32.0, "flux3 single": 32.0,
    },
    working=2.0, working_recompute=2.0, velocity=20.0, queued=GIB,
    queued_gradient=7 * GIB // 2, queued_unpacked=5 * GIB // 2, scores=0.0, batches=True,
)  # fmt: skip
CHUNKS, CHUNKS_RECOMPUTE = 10, 3  # chunks of attention that exist at once; and when some blocks recompute


def needs(
    architecture: Architecture, config: TrainConfig, computer: Computer, photos: int, further_crops: int = 0
) -> Needs:
    """The forecast for a run with these settings on so many photos, and so many crops beyond one of each."""
    item, of = computer.item, multiples(computer)
    tokens = (config.side_px // PATCH_PX) ** 2
    # captions, prompts with and without the trigger, and the empty one
    texts = photos + len(config.sample_prompts) + config.judged_prompts + 1
    conditionings = item * texts * architecture.text_tokens * architecture.text_width
    resident = conditionings + _base(architecture, config.base_bits, item) + adapter_bytes(architecture, config)
    vae = 4 * architecture.vae
    encoding_room, decoding_room = (computer.memory - held - vae for held in (conditionings, resident))
    largest, channels = max(config.sides_px), architecture.vae_channels
    widest = max(stack.width for stack in architecture.stacks)
    evaluation = of.velocity * (tokens + architecture.text_tokens) * widest * item
    if config.base_bits is not None:
        evaluation += item * max(stack.parameters for stack in architecture.stacks)  # one block unpacked
    evaluation += of.queued
    kept = kept_blocks(architecture, config, computer)
    return Needs(
        text_encoding=int(conditionings + item * architecture.text_layer),
        photo_encoding=int(conditionings + vae + peak("encode", computer.device, channels, largest, encoding_room)),
        training=int(resident + step_bytes(architecture, config, computer, kept)),
        drawing=int(
            resident + vae + max(peak("decode", computer.device, channels, largest, decoding_room), evaluation)
        ),
        disk=_disk(architecture, config, photos, further_crops),
    )


def step_bytes(architecture: Architecture, config: TrainConfig, computer: Computer, kept: int) -> float:
    """Peak of a step beyond base, adapter and texts: its gradient with `kept` blocks' activations, or its update."""
    item, of, blocks = computer.item, multiples(computer), _blocks(architecture)
    recomputed = len(blocks) - kept
    batch = config.examples_at_once if of.batches or not recomputed else 1
    activations = [_activations(architecture, stack, config, computer, batch) for stack in blocks]
    tokens = (max(config.sides_px) // PATCH_PX) ** 2 + architecture.text_tokens
    inputs = recomputed * batch * tokens * max(stack.width for stack in architecture.stacks) * item
    stacked_texts = (config.examples_at_once - 1) * architecture.text_tokens * architecture.text_width * item
    largest = max(activations)
    if config.base_bits is not None:
        largest += item * max(o * i for stack in architecture.stacks for i, o in stack.linear)  # one layer unpacked
    working = largest * (1 + of.working_recompute if recomputed else of.working)
    if any(_scores(architecture, stack, config, computer, batch) > SCORES_AT_MOST for stack in architecture.stacks):
        working += CHUNK_ON_CPU * (CHUNKS_RECOMPUTE if recomputed else CHUNKS)
    kept_activations = sum(activations[recomputed:])
    queued = min(of.queued_gradient, kept_activations)
    if kept and config.base_bits is not None:
        queued += min(of.queued_unpacked, item * architecture.transformer)
    weights = 4 * adapter_numbers(architecture, config)
    one_by_one = weights if batch < config.examples_at_once else 0  # an example's gradient beside the sum
    gradient = stacked_texts + inputs + kept_activations + queued + working + one_by_one
    return max(weights + gradient, adapter_bytes(architecture, config))  # an update reuses the gradient's buffers


def kept_blocks(architecture: Architecture, config: TrainConfig, computer: Computer) -> int:
    """How many blocks, from the last one, keep their activations: all, none, or as many as memory allows."""
    count = len(_blocks(architecture))
    if config.activations != "as_fit":
        return count if config.activations == "all" else 0
    resident = _base(architecture, config.base_bits, computer.item) + adapter_bytes(architecture, config)
    budget = computer.memory * SHARE_TO_FILL - resident
    return next((k for k in range(count, 0, -1) if step_bytes(architecture, config, computer, k) <= budget), 0)


def adapter_numbers(architecture: Architecture, config: TrainConfig) -> int:
    """Upper bound of the numbers in A and B: every linear layer of the blocks at the highest rank.

    Modulation counts only when `targets` names layers by their paths, because no preset includes it.
    """
    return config.highest_rank * sum(i + o for i, o in _adapted(architecture, config))


def _adapted(architecture: Architecture, config: TrainConfig) -> list[tuple[int, int]]:
    """(in, out) of the layers that may get an adapter."""
    by_path = any(sign in config.targets for sign in ".*?[")
    of_block = ((*stack.linear, *(stack.modulation if by_path else ())) for stack in _blocks(architecture))
    return [sides for layers in of_block for sides in layers]


def adapter_bytes(architecture: Architecture, config: TrainConfig) -> int:
    """A and B, the optimizer's state, and the weight average if there is one, in bytes."""
    traits, weights = TRAITS[config.optimizer], adapter_numbers(architecture, config)
    adapted = _adapted(architecture, config)
    factors = sum(i + o for i, o in adapted) + 2 * config.highest_rank * len(adapted) if traits.factored else 0
    return 4 * (weights * (1 + traits.state_per_weight + (config.ema_decay > 0)) + factors)


def multiples(computer: Computer) -> Multiples:
    return CPU if computer.device == "cpu" else GPU


def _blocks(architecture: Architecture) -> list[Stack]:
    return [stack for stack in architecture.stacks for _ in range(stack.count)]


def _activations(
    architecture: Architecture, stack: Stack, config: TrainConfig, computer: Computer, batch: int
) -> float:
    """Bytes that one block keeps for its gradient; attention in chunks keeps no scores."""
    multiple = multiples(computer).activations[f"{architecture.family} {stack.kind}"]
    scores = _scores(architecture, stack, config, computer, batch)
    tokens = _tokens(architecture, stack, config)
    return batch * tokens * stack.width * computer.item * multiple + (scores if scores <= SCORES_AT_MOST else 0)


def _scores(architecture: Architecture, stack: Stack, config: TrainConfig, computer: Computer, batch: int) -> float:
    """Bytes of a block's attention scores; 0 where attention's gradient is fused."""
    return multiples(computer).scores * batch * stack.heads * _tokens(architecture, stack, config) ** 2 * computer.item


def _tokens(architecture: Architecture, stack: Stack, config: TrainConfig) -> int:
    """The tokens that a block sees."""
    return (max(config.sides_px) // PATCH_PX) ** 2 * stack.image + architecture.text_tokens * stack.text


def _base(architecture: Architecture, bits: int | None, item: int) -> float:
    if bits is None:
        return architecture.transformer * item
    packed = sum(
        stack.count * sum(i * o for i, o in (*stack.linear, *stack.modulation) if i % QUANTIZATION_GROUP == 0)
        for stack in architecture.stacks
    )
    return packed * (bits / 8 + 2 * item / QUANTIZATION_GROUP) + (architecture.transformer - packed) * item


def _disk(architecture: Architecture, config: TrainConfig, photos: int, further_crops: int) -> int:
    """Checkpoints (the adapter in 16 bits, and the training state), cached latents and texts, pictures."""
    checkpoint = 2 * adapter_numbers(architecture, config) + adapter_bytes(architecture, config)
    checkpoints = math.ceil(config.steps / config.save_every) * checkpoint
    rounds = config.steps // config.sample_every + 1 if config.sample_every else 0
    class_sides = config.class_pictures * max(config.sides_px) ** 2
    pictures = 2 * (rounds * len(config.sample_prompts) * config.side_px**2 + class_sides)
    photo_sides = (photos + further_crops) * (1 + config.flip) * sum(side**2 for side in config.sides_px)
    latents = (photo_sides + class_sides) / PATCH_PX**2 * 128 * 4
    texts = (photos + len(config.sample_prompts)) * architecture.text_tokens * architecture.text_width * 4
    return int(checkpoints + pictures + latents + texts)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Whether a run fits, in a sentence with the numbers; when it does not, the nearest settings that do."""

    memory: int  # bytes, of its largest phase
    memory_there: int
    disk: int
    disk_there: int
    fits: bool
    sentence: str
    offer: dict[str, Any] | None  # knobs to change
    offer_words: str


def forecast(
    architecture: Architecture, config: TrainConfig, computer: Computer, photos: int, further_crops: int = 0
) -> Forecast:
    """Compare what a run with these settings needs with what this computer has."""
    needed = needs(architecture, config, computer, photos, further_crops)
    memory, disk = fits_memory(needed, computer), fits_disk(needed, computer)
    sentence = (
        f"Needs about {memory_size(needed.memory)} {WHOSE[computer.device]}, most of it while {needed.largest_phase}; "
        f"there are {memory_size(computer.memory)}. On the disk it takes {disk_size(needed.disk)} of "
        f"{disk_size(computer.disk)}."
    )
    numbers = (needed.memory, computer.memory, needed.disk, computer.disk)
    if memory and disk:
        return Forecast(*numbers, True, sentence, None, "")
    for changes in _less_memory(config) if not memory else _less_disk(config):
        after = needs(architecture, replace(config, **changes), computer, photos, further_crops)
        if fits_memory(after, computer) and (disk or fits_disk(after, computer)):
            words = f"{described(changes)}: {memory_size(after.memory)} of memory, {disk_size(after.disk)} on the disk."
            return Forecast(*numbers, False, sentence, changes, words)
    return Forecast(*numbers, False, sentence, None, nothing_fits(memory))


def nothing_fits(memory: bool) -> str:
    """The message when no settings help; `memory` says whether there is enough of that."""
    return f"No settings of this model fit; it takes {'more free space' if memory else 'a smaller model'}."


def fits_memory(needed: Needs, computer: Computer) -> bool:
    return needed.memory <= computer.memory


def fits_disk(needed: Needs, computer: Computer) -> bool:
    return needed.disk + SPARE_DISK <= computer.disk


def _less_memory(config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Changes that need less memory, first those that affect the pictures least."""
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


def _less_disk(config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Changes that write less to the disk."""
    for times in (2, 5, 10):
        yield {"save_every": min(config.save_every * times, config.steps)}


def described(changes: Mapping[str, Any]) -> str:
    """Settings that fit, as the start of a sentence."""
    words = {
        "activations": lambda _: "only as many activations kept as memory allows",
        "batch_size": lambda value: f"batch {value}",
        "accumulate": lambda value: f"accumulation {value}",
        "base_precision": lambda value: BASES[value],
        "side_px": lambda value: f"{value} px",
        "more_sides_px": lambda _: "one size",
        "save_every": lambda value: f"a checkpoint every {value} steps",
    }
    return f"It fits with {', '.join(words[name](value) for name, value in changes.items())}"

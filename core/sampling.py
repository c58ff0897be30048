"""Drawing: from noise to a picture along the model's own schedule, one picture at a time.

    l_0 = eps;   l'_{t+1} = l_t + eps'_t * (sigma_{t+1} - sigma_t);   picture = decode(l_T)

    embedded guidance      eps' = T_theta(l, t, prompt; g)       one pass, g an input of the network (FLUX.1-dev)
    flow map               eps' = T_theta(l, t, prompt; sigma_{t+1})     the step's end is an input (distilled FLUX.3)
    true guidance          eps' = e_0 + w (e_1 - e_0)            two passes: e_1 with the prompt, e_0 with the negative

A picture's recipe holds everything needed to draw it again. `sampler_steps` is a generator, so its caller can stop
between two steps.

Sources: "DreamBooth loss" (Filip Strand, 2024); Ho and Salimans 2022, arXiv:2207.12598; diffusers' FluxPipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Required, TypedDict, Unpack

import mlx.core as mx
import numpy as np
from PIL import Image

from core import flow
from core.config.choices import precision_of
from core.device.backend import describe, evaluate
from core.errors import ConfigProblem, FieldProblem, PictureProblem
from core.models.base import TARGET, Conditioning, Family, Grid
from core.models.blockwise import BlockwiseVelocity
from core.models.quantized import bits_of
from core.randomness import key_for

OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all); it may raise to stop the drawing."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """How strongly a picture follows its prompt, in the model's own terms."""

    embedded: float  # an input of the network, where it has one
    true: float  # w above; 1 means one pass and no negative prompt


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn picture and the recipe to draw it again."""

    image: Image.Image
    recipe: dict[str, Any]
    l_T: mx.array  # the latent of the image: float32 (1, L, C)


def guidance_for(family: Family, guidance: float, true_guidance: float | None = None) -> Guidance:
    """The meaning of the knob `guidance` for this model.

    A model distilled with guidance (FLUX.1-dev) takes it as an input, and uses true guidance only on request.
    A model without that input (Pocket) follows its prompt more closely by true guidance only, so `guidance` is the
    weight w, against the negative prompt, which is empty by default; 1 or less turns it off.
    """
    if family.embeds_guidance:
        return Guidance(embedded=guidance, true=max(1.0, true_guidance or 1.0))
    return Guidance(embedded=0.0, true=max(1.0, guidance if true_guidance is None else true_guidance))


def starting_noise(grid: Grid, seed: int) -> mx.array:
    """l_0 of a seed: float32 (1, L, C); a function of the seed and the grid alone."""
    return mx.random.normal((1, grid.tokens, grid.channels), dtype=mx.float32, key=key_for("picture", seed))


def sampler_steps(
    family: Family,
    conditioning: Conditioning,
    negative: Conditioning | None,
    grid: Grid,
    steps: int,
    guidance: Guidance,
    noise_1LC: mx.array,
) -> Iterator[mx.array]:
    """The latents after each Euler step, evaluated, float32 (1, L, C); the last is the clean latent.

    `negative` is needed where `guidance.true` is above 1 and ignored elsewhere.
    """
    sigmas, velocity_of = family.drawing_sigmas(steps, grid), BlockwiseVelocity(family)
    l_t = noise_1LC.astype(mx.float32)
    for sigma, sigma_next in pairwise(sigmas):
        sigma_1 = mx.array([sigma], dtype=mx.float32)
        more = {TARGET: mx.array([sigma_next], dtype=mx.float32)} if family.flow_map else {}
        velocity = velocity_of(l_t, sigma_1, conditioning | more, grid, guidance.embedded).astype(mx.float32)
        if guidance.true > 1.0 and negative is not None:
            away = velocity_of(l_t, sigma_1, negative | more, grid, guidance.embedded).astype(mx.float32)
            velocity = away + guidance.true * (velocity - away)
        l_t = flow.euler_step(l_t, velocity, sigma, sigma_next)
        evaluate(l_t)
        yield l_t


class DrawingOptions(TypedDict, total=False):
    """The options of `drawing`."""

    height_px: Required[int]
    width_px: Required[int]
    steps: Required[int]
    guidance: Required[float]
    seed: Required[int]
    true_guidance: float | None
    negative_prompt: str | Conditioning
    noise: mx.array | None
    about: Mapping[str, Any] | None
    adapters: Sequence[str]


def draw(
    family: Family,
    prompt: str | Conditioning,
    *,
    on_step: OnStep | None = None,
    **options: Unpack[DrawingOptions],
) -> Picture:
    """Draw one picture: `drawing` run to its end.

    Raises what `drawing` raises; whatever `on_step` raises.
    """
    progress = drawing(family, prompt, **options)
    while True:
        try:
            done, steps = next(progress)
        except StopIteration as end:
            picture: Picture = end.value
            return picture
        if on_step is not None:
            on_step(done, steps)


def drawing(
    family: Family,
    prompt: str | Conditioning,
    *,
    height_px: int,
    width_px: int,
    steps: int,
    guidance: float,
    seed: int,
    true_guidance: float | None = None,
    negative_prompt: str | Conditioning = "",
    noise: mx.array | None = None,
    about: Mapping[str, Any] | None = None,
    adapters: Sequence[str] = (),
) -> Generator[tuple[int, int], None, Picture]:
    """Draw one picture, yielding (steps done, steps in all) after each step and returning the picture.

    `prompt` and `negative_prompt` are text, or its conditioning from `family.encode_each`, for which no text encoder is
    loaded. `guidance` and `true_guidance`: see `guidance_for`. `noise`, float32 (1, L, C), replaces the seed's. `about`
    is added to the recipe: the prompt where conditioning was given, adapter hashes. `adapters` names the attached
    adapters in an error message.

    Raises ConfigProblem for impossible sizes and steps, ModelProblem for a broken model, PictureProblem for a picture
    that is not finite.
    """
    _check(family, height_px, width_px, steps)
    grid = family.grid(height_px, width_px)
    strength = guidance_for(family, guidance, true_guidance)
    conditioning, *negative = _conditionings(family, [prompt, negative_prompt] if strength.true > 1.0 else [prompt])
    noise_1LC = starting_noise(grid, seed) if noise is None else noise
    clean_1LC = noise_1LC
    latents = sampler_steps(family, conditioning, negative[0] if negative else None, grid, steps, strength, noise_1LC)
    for done, l_t in enumerate(latents, start=1):
        clean_1LC = l_t
        yield done, steps
    texts = {
        "prompt": prompt if isinstance(prompt, str) else None,
        "negative_prompt": negative_prompt if isinstance(negative_prompt, str) and strength.true > 1.0 else None,
    }
    recipe = recipe_of(
        family,
        height_px=height_px,
        width_px=width_px,
        steps=steps,
        guidance=guidance,
        true_guidance=strength.true,
        seed=seed if noise is None else None,
        about=texts | dict(about or {}),
    )
    return Picture(to_image(family.decode(clean_1LC, grid), adapters), recipe, clean_1LC)


def recipe_of(
    family: Family,
    *,
    height_px: int,
    width_px: int,
    steps: int,
    guidance: float,
    true_guidance: float | None = None,
    seed: int | None,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The recipe of a picture, drawn or not: equal recipes draw equal pictures. `about` is added to it."""
    computer = describe()
    return {
        "prompt": None,
        "negative_prompt": None,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "true_guidance": guidance_for(family, guidance, true_guidance).true,
        "width_px": width_px,
        "height_px": height_px,
        "family": family.name,
        "model": dict(family.hashes),
        "adapters": [],
        "dtype": str(family.dtype).removeprefix("mlx.core."),
        "precision": precision_of(bits_of(family.transformer)),
        "device": computer["device"],
        "mlx": computer["mlx"],
        **about,
    }


def _conditionings(family: Family, prompts: Sequence[str | Conditioning]) -> list[Conditioning]:
    """The conditioning of each prompt; those that are text are encoded together."""
    texts = [each for each in prompts if isinstance(each, str)]
    encoded = dict(zip(texts, family.encode_each(texts) if texts else (), strict=True))
    return [encoded[each] if isinstance(each, str) else each for each in prompts]


def ticks(progress: Generator[tuple[int, int], None, Picture]) -> Generator[None, None, Picture]:
    """The same drawing, yielding None after each step."""
    while True:
        try:
            next(progress)
        except StopIteration as end:
            picture: Picture = end.value
            return picture
        yield None


def to_image(pixels_1HWC: mx.array, adapters: Sequence[str] = ()) -> Image.Image:
    """A picture from float pixels in [-1, 1], rounded to 8 bits a channel.

    Raises PictureProblem if a pixel is not finite, which names the `adapters`, or if all are exactly zero.
    """
    levels = mx.round((mx.clip(pixels_1HWC[0].astype(mx.float32), -1.0, 1.0) + 1.0) * 127.5).astype(mx.uint8)
    finite, any_ = mx.isfinite(pixels_1HWC).all(), mx.any(pixels_1HWC)
    evaluate(levels, finite, any_)
    if not finite.item():
        raise PictureProblem(_not_finite(adapters))
    if not any_.item():
        raise PictureProblem(ALL_ZEROS)
    return Image.fromarray(np.array(levels))


ALL_ZEROS = (
    "The picture is all zeros, which MLX can return when the GPU runs out of memory. Close other programs, or draw a "
    "smaller picture."
)


def _not_finite(adapters: Sequence[str]) -> str:
    if not adapters:
        return "The picture is not finite: the model computed infinities or NaN. Check that its files are whole."
    return (
        f"The picture is not finite: with {' and '.join(adapters)} the model computed infinities or NaN. Lower the "
        "strength, or use another adapter."
    )


def _check(family: Family, height_px: int, width_px: int, steps: int) -> None:
    problems = []
    for name, length in (("height_px", height_px), ("width_px", width_px)):
        if length <= 0 or length % family.pixel_multiple:
            problems.append(
                FieldProblem(name, f"is {length} px; it must be a multiple of {family.pixel_multiple} above 0")
            )
    if steps < 1:
        problems.append(FieldProblem("steps", f"is {steps}; at least one step is needed"))
    if problems:
        raise ConfigProblem("This picture cannot be drawn.", problems)

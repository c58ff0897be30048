"""A run's settings, checked against model, photos and adapter when it is requested: before anything is loaded.

    sample_prompts, class_prompt    have no unknown {name}
    side_px, more_sides_px          are multiples of the model's token
    targets, ranks                  match layers of the model
    start_from                      an adapter file that fits the model's layers
    held_out                        photos that are there, and leaves one to train on
    class_folder                    a folder with pictures; whether each can be read is checked when the run is created
    class_preservation              not with trigger_dropout, which teaches the opposite

Ranges are checked where the knobs are read (core/config/resolve.py). A run would fail for each of these when it has
loaded a model or encoded photos, so what is added to training with a condition of its own is checked here too.

Plain Python, for the web process and the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from core.adapters import trainable
from core.adapters.layers import resolve_ranks, resolve_targets
from core.config import layer_ranks
from core.config.resolve import Examined
from core.config.train import TrainConfig, knobs
from core.dataset import captions, class_folder, split
from core.errors import AdapterProblem, ConfigProblem, DataProblem, FieldProblem, ModelProblem
from core.estimate.architecture import Architecture

SHOWN = 3  # layers of an adapter that do not fit


def architecture_of(folder: Path) -> Architecture | None:
    """The model's architecture; None when its files say too little, which loading it reports."""
    try:
        return Architecture.of(folder)
    except (ModelProblem, KeyError, TypeError, ValueError):
        return None


def settings_problems(
    examined: Examined, architecture: Architecture | None, photos: Sequence[str] = (), *, starts: bool = False
) -> list[FieldProblem]:
    """Every problem with the settings, those of their ranges included, in the order of the knobs.

    `photos` are their names, none to leave them out of it; with an adapter to start from (`starts`) the knobs of
    layers are not used.
    """
    config, wrong = examined.resolved.config, examined.wrong
    found = [each for each in _prompt_problems(config) if each.field not in wrong]
    found += [each for each in _class_problems(config) if each.field not in wrong]
    if architecture is not None:
        found += [each for each in _size_problems(config, architecture) if each.field not in wrong]
        found += [] if starts else _layer_problems(config, wrong, architecture)
    if photos and "held_out" not in wrong:
        found += _held_out_problems(config.held_out, photos)
    return in_order([*examined.problems, *found])


def start_problems(
    file: Path, name: str, model: str, family: str, architecture: Architecture | None
) -> list[FieldProblem]:
    """The problem with an adapter file to start from, as one sentence that calls it `name`."""
    if architecture is None:
        return []
    try:
        trainable.check(file, family, architecture.layers, name)
    except AdapterProblem as problem:
        shown = [f"{each.field} {each.message}" for each in problem.problems[:SHOWN]]
        more = " and others" if len(problem.problems) > SHOWN else ""
        details = f" For {model}: {'; '.join(shown)}{more}." if shown else ""
        return [FieldProblem("start_from", f"{problem.message}{details}")]
    return []


def in_order(problems: Sequence[FieldProblem]) -> list[FieldProblem]:
    """Sorted as a form shows the knobs; other fields follow."""
    places = {name: place for place, name in enumerate(knobs())}
    return sorted(problems, key=lambda each: places.get(each.field, len(places)))


def _prompt_problems(config: TrainConfig) -> Iterator[FieldProblem]:
    for name, prompts in (("sample_prompts", config.sample_prompts), ("class_prompt", (config.class_prompt,))):
        for prompt in prompts:
            try:
                captions.check(prompt)
            except DataProblem as problem:
                yield FieldProblem(name, problem.message)


def _class_problems(config: TrainConfig) -> Iterator[FieldProblem]:
    if config.class_folder:
        try:
            class_folder.check(config.class_folder)
        except ConfigProblem as problem:
            yield from problem.problems
    if config.class_preservation and config.trigger_dropout:
        both = f"is {config.class_preservation:g}, and trigger_dropout is {config.trigger_dropout:g}"
        words = "one keeps what the class word means, the other teaches it your subject; set one of them to 0"
        yield FieldProblem("class_preservation", f"{both}: {words}")


def _size_problems(config: TrainConfig, architecture: Architecture) -> Iterator[FieldProblem]:
    multiple = architecture.pixel_multiple
    for name, sides in (("side_px", (config.side_px,)), ("more_sides_px", config.more_sides_px)):
        for side in sides:
            if side % multiple:
                yield FieldProblem(name, f"is {side} px; this model's sizes are multiples of {multiple}")


def _held_out_problems(choice: str, photos: Sequence[str]) -> list[FieldProblem]:
    try:
        split.held_out(choice, photos)
    except ConfigProblem as problem:
        return problem.problems
    return []


def _layer_problems(config: TrainConfig, wrong: set[str], architecture: Architecture) -> list[FieldProblem]:
    layers = architecture.layers
    found: list[FieldProblem] = []
    targets = list(layers.sizes)  # of wrong ones nothing is known: then ranks may name any layer
    if "targets" not in wrong:
        try:
            targets = resolve_targets(layers, config.targets)
        except ConfigProblem as problem:
            found += problem.problems
    if "ranks" not in wrong:
        entries = layer_ranks.read(config.ranks)[0]
        try:
            resolve_ranks(layers, targets, entries, config.alpha / config.rank)
        except ConfigProblem as problem:
            found += problem.problems
    return found

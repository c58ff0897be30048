"""What makes a resumed run the same run: its settings, photos, captions, base model and start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from core.config.resolve import OLD_DEFAULTS
from core.config.train import TrainConfig
from core.dataset.crops import Box
from core.dataset.examples import Example
from core.errors import ConfigProblem, FieldProblem, TrainingProblem
from core.training.checkpoint import MAY_CHANGE, State


def check_same_run(
    state: State, config: TrainConfig, data_hash: str, model_hashes: Mapping[str, str], start: str
) -> None:
    """Check that a resumed run has the settings, photos, captions, base model and start that it began with.

    A training assistant that came after the run began is not used in it (setup.py), so it does not count.

    Raises ConfigProblem naming each changed knob, TrainingProblem for photos or model.
    """
    now, defaults = (json.loads(json.dumps(asdict(each))) for each in (config, TrainConfig()))
    then = defaults | OLD_DEFAULTS | state.config  # a checkpoint may be older than a knob
    changed = [name for name in now if name not in MAY_CHANGE and now[name] != then[name]]
    if changed:
        problems = [FieldProblem(name, f"was {then[name]} and is now {now[name]}") for name in changed]
        raise ConfigProblem("A run goes on with the settings it began with; start a new one to change these.", problems)
    if config.steps < state.step:
        problem = FieldProblem("steps", f"is {config.steps}, and {state.step} are done already")
        raise ConfigProblem("Some settings need another look.", [problem])
    if data_hash != state.data_hash:
        raise TrainingProblem(
            "Class pictures, photos, crops, masks, captions or words have changed since this run began; "
            "start a new run."
        )
    if start != state.start_hash:
        problem = FieldProblem("start_from", "is another adapter file than the run began with")
        raise ConfigProblem(
            "A run goes on from its own checkpoint; start a new one to begin with this adapter.", [problem]
        )
    hashes = {part: value for part, value in model_hashes.items() if part != "assistant" or part in state.model_hashes}
    if hashes != state.model_hashes:
        raise TrainingProblem("The base model's files have changed since this run began; start a new run.")


def data_hash_of(examples: Sequence[Example], words: Sequence[str]) -> str:
    """A hash of photos, crops, masks and captions, and of the words that other texts are made from."""
    return hashlib.sha256(json.dumps([*map(_item, examples), *words]).encode()).hexdigest()


def _item(example: Example) -> list[Any]:
    """What identifies a photo; without further crops and a mask it is what it was before they existed."""
    item: list[Any] = [example.sha256, example.caption, _sides(example.box) if example.box else None]
    if example.further_boxes or example.mask:
        item += [[_sides(box) for box in example.further_boxes], example.mask.sha256 if example.mask else None]
    return item


def _sides(box: Box) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]

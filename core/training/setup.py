"""What a run begins with: an adapter on the network, and the state that its first step changes.

new          A random, B zeros, on the layers that the knobs name            lora.attach
a file       the layers and ranks that it has, whatever the knobs say        lora.attach_factors
resumed      as the run began, then the weights of its checkpoint            go_on
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from core import files
from core.adapters import file as adapter_file
from core.adapters import lora
from core.config import layer_ranks
from core.config.train import TrainConfig, default_of
from core.device.hardware import Computer, this_computer
from core.errors import TrainingProblem
from core.estimate import memory
from core.models.base import Family
from core.randomness import key_for
from core.training import update
from core.training.checkpoint import State
from core.training.optimizers import RULES

IN_BLOCKS = (
    "Only layers within the model's blocks can be trained, and it has others. Begin afresh or with another adapter; "
    "pictures can be drawn with this one as it is."
)


def attach(
    family: Family, config: TrainConfig, state: State | None, start_from: Path | None
) -> tuple[lora.Adapter, str]:
    """The adapter, attached with the weights it begins with, and a sentence where those come from a file.

    A run that began with a file goes on from its checkpoint alone. Raises AdapterProblem, ConfigProblem.
    """
    transformer = family.transformer
    if state is None and start_from is not None:
        given = adapter_file.read(start_from, family.name)
        lora.check_trainable(given.factors, f"A run cannot begin with {start_from.name}. {IN_BLOCKS}")
        layers = f"{len(given.factors)} layers, rank {given.rank}"
        adapter = lora.attach_factors(transformer, given.factors, name="subject", trained=True)
        return adapter, f"Begins with {start_from.name}: {layers}; these are what is trained."
    if state is not None and state.start:
        names = dict.fromkeys(name.rpartition(".")[0] for name in state.parameters)
        lora.check_trainable(names, f"This run cannot go on from its checkpoint. {IN_BLOCKS}")
        held = {name: (state.parameters[f"{name}.lora_A"], state.parameters[f"{name}.lora_B"]) for name in names}
        return lora.attach_factors(transformer, held, name="subject", trained=True), ""
    targets = lora.resolve_targets(transformer, family.presets, config.targets)
    entries = layer_ranks.read(config.ranks)[0]
    own = lora.resolve_ranks(targets, family.presets, entries, config.alpha / config.rank)
    return lora.attach(transformer, targets, config.rank, config.alpha, key_for("adapter", config.seed), own=own), ""


def first_state(
    adapter: lora.Adapter, family: Family, config: TrainConfig, folder: Path, data_hash: str, start_from: Path | None
) -> State:
    """Before the first step; `folder` is the run's, by whose disk and computer it is settled what memory there is."""
    first = adapter.parameters()
    remembered = update.begin(RULES[config.optimizer], first, averages=config.ema_decay > 0)
    state = State(0, first, remembered, as_json(config), data_hash, dict(family.hashes), 0)
    state.start = files.sha256_of(start_from) if start_from is not None else ""
    state.kept = memory.kept_blocks(family.architecture, config, this_computer(folder))
    return state


def start_hash(state: State, start_from: Path | None) -> str:
    """The hash of the file to begin with; one that is gone by now is taken to be what it was."""
    if start_from is None:
        return ""
    return files.sha256_of(start_from) if start_from.is_file() else state.start


def go_on(adapter: lora.Adapter, state: State, family: Family, config: TrainConfig, folder: Path) -> str:
    """Give the adapter a checkpoint's weights; a sentence where not as many blocks as before keep their activations.

    Raises TrainingProblem where the checkpoint has other layers.
    """
    if state.parameters.keys() != adapter.parameters().keys():
        raise TrainingProblem("The checkpoint holds other layers than this run trains; start a new run.")
    sentence = _keep_anew(state, family, config, this_computer(folder))
    state.config = as_json(config)
    adapter.update(state.parameters)
    return sentence


def _keep_anew(state: State, family: Family, config: TrainConfig, computer: Computer) -> str:
    """Settle again how many blocks keep their activations, if the knob is another or this computer has less memory.

    Else it stays what the checkpoint says, also where there is room for more by now: the gradient is the same however
    many do, but not its last digits, and a run goes on exactly.
    """
    count, now = len(family.blocks), memory.kept_blocks(family.architecture, config, computer)
    before = count if state.kept is None else state.kept
    same_request = state.config.get("activations", default_of("activations")) == config.activations
    if now == before or (same_request and (state.kept is None or now > before)):
        return ""
    state.kept = now
    return (
        f"From here on {now} of {count} blocks keep their activations, where {before} did before: the last digits can "
        "differ from those of a run that was never stopped."
    )


def as_json(config: TrainConfig) -> Mapping[str, object]:
    """The settings as a checkpoint gives them back: JSON has lists for tuples."""
    return json.loads(json.dumps(asdict(config)))

"""The adapter on the network, and the state that the first step changes.

new          A random, B zeros, on the layers that the knobs name            lora.attach
from a file  the layers and ranks of the file, whatever the knobs say        lora.attach_factors
resumed      attached as the run began, then the checkpoint's weights        _resume
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core import files
from core.adapters import file as adapter_file
from core.adapters import layers, lora, trainable
from core.config import layer_ranks
from core.config.optimizer_defaults import rate_advice
from core.config.train import TrainConfig, default_of
from core.device.hardware import Computer, this_computer
from core.errors import TrainingProblem
from core.estimate import memory
from core.models.base import Family, Grid
from core.randomness import key_for
from core.training import assistant, update
from core.training.checkpoint import DRAWING, State
from core.training.events import Note
from core.training.optimizers import OPTIMIZERS
from core.training.schedule import learning_rate


@dataclass(frozen=True, slots=True)
class Attached:
    """What `attach` made."""

    state: State
    adapter: lora.Adapter
    assistant: lora.Adapter | None
    notes: list[Note]


def attach(
    family: Family,
    config: TrainConfig,
    folder: Path,
    data_hash: str,
    state: State | None,
    start_from: Path | None,
    cleanup: ExitStack,
) -> Attached:
    """Attach the run's adapter and the model's training assistant; `cleanup` detaches them.

    `state` is the checkpoint to resume from, which then needs no `start_from`. The memory for activations is that of
    the computer with `folder`. Raises AdapterProblem, ConfigProblem, ModelProblem, TrainingProblem.
    """
    adapter, sentence = attach_adapter(family, config, state, start_from)
    cleanup.callback(adapter.detach)
    if state is None:
        state = _first_state(adapter, family, config, folder, data_hash, start_from)
        notes = [Note(sentence)] if sentence else []
    else:
        notes = _resume(adapter, state, family, config, folder)
    unsuited = rate_advice(config.optimizer, config.learning_rate)
    if unsuited:
        notes.append(Note(unsuited, "warning"))
    # A run that began before its model had an assistant goes on without it.
    assistant_adapter = assistant.attach(family) if "assistant" in state.model_hashes else None
    if assistant_adapter is not None:
        cleanup.callback(assistant_adapter.detach)
    elif family.unassisted:
        notes.append(Note(family.unassisted, "warning"))
    return Attached(state, adapter, assistant_adapter, notes)


def check(family: Family, config: TrainConfig, state: State | None, start_from: Path | None) -> None:
    """Check that the layers of the run's adapter can be trained, by config and headers: before anything is encoded.

    Raises ConfigProblem for the knobs `targets` and `ranks`, AdapterProblem for the file or the checkpoint.
    """
    if state is None and start_from is not None:
        trainable.check(start_from, family.name, family.architecture.layers)
    elif state is not None and state.start_hash:
        lora.check_trainable(
            _trained_layers(state), f"This run cannot go on from its checkpoint. {trainable.IN_BLOCKS}"
        )
    else:
        _chosen_layers(family, config)


def _chosen_layers(family: Family, config: TrainConfig) -> tuple[list[str], dict[str, tuple[int, float]]]:
    """The layers that the knobs name, and the (rank, alpha) of those with their own. Raises ConfigProblem."""
    here = family.architecture.layers
    targets = layers.resolve_targets(here, config.targets)
    entries = layer_ranks.read(config.ranks)[0]
    return targets, layers.resolve_ranks(here, targets, entries, config.alpha / config.rank)


def _trained_layers(state: State) -> dict[str, None]:
    """The layers of a checkpoint's adapter, in its order."""
    return dict.fromkeys(name.rpartition(".")[0] for name in state.parameters)


def attach_adapter(
    family: Family, config: TrainConfig, state: State | None, start_from: Path | None
) -> tuple[lora.Adapter, str]:
    """The adapter with its initial weights, and a sentence if these come from a file.

    A run that began with a file resumes from its checkpoint alone. Raises AdapterProblem, ConfigProblem.
    """
    check(family, config, state, start_from)
    transformer = family.transformer
    if state is None and start_from is not None:
        given = adapter_file.read(start_from, family.name)
        words = f"{len(given.factors)} layers, rank {given.rank}"
        adapter = lora.attach_factors(transformer, given.factors, name="subject", trained=True, title=start_from.name)
        return adapter, f"Begins with {start_from.name}: {words}; these are what is trained."
    if state is not None and state.start_hash:
        names = _trained_layers(state)
        factors = {name: (state.parameters[f"{name}.lora_A"], state.parameters[f"{name}.lora_B"]) for name in names}
        return lora.attach_factors(transformer, factors, name="subject", trained=True), ""
    targets, own = _chosen_layers(family, config)
    return lora.attach(transformer, targets, config.rank, config.alpha, key_for("adapter", config.seed), own=own), ""


def shift_of(family: Family, state: State | None) -> Callable[[Grid], float]:
    """The shift of the sigma draw "model_shift": a resumed run keeps the one that it began with."""
    return family.drawing_shift if state is not None and state.shift == DRAWING else family.training_shift


def start_hash(state: State, start_from: Path | None) -> str:
    """The hash of the file that the run begins with; a file that is gone is taken to be the one of the checkpoint."""
    if start_from is None:
        return ""
    return files.sha256_of(start_from) if start_from.is_file() else state.start_hash


def _first_state(
    adapter: lora.Adapter, family: Family, config: TrainConfig, folder: Path, data_hash: str, start_from: Path | None
) -> State:
    w = adapter.parameters()
    optimizer_state = update.init(OPTIMIZERS[config.optimizer], w, with_ema=config.ema_decay > 0)
    state = State(0, w, optimizer_state, as_json(config), data_hash, dict(family.hashes), 0)
    state.start_hash = files.sha256_of(start_from) if start_from is not None else ""
    state.kept = memory.kept_blocks(family.architecture, config, this_computer(folder))
    return state


def _resume(adapter: lora.Adapter, state: State, family: Family, config: TrainConfig, folder: Path) -> list[Note]:
    """Give the adapter the checkpoint's weights; notes on what differs from the settings before.

    Raises TrainingProblem if the checkpoint has other layers.
    """
    if state.parameters.keys() != adapter.parameters().keys():
        raise TrainingProblem("The checkpoint holds other layers than this run trains; start a new run.")
    sentences = [_choose_kept_blocks(state, family, config, this_computer(folder)), _continue_rate(state, config)]
    state.config = as_json(config)
    adapter.update(state.parameters)
    return [Note(sentence) for sentence in sentences if sentence]


def _continue_rate(state: State, config: TrainConfig) -> str:
    """Let the learning rate continue from where it was if the number of steps changed; a sentence if so."""
    before = state.config.get("steps", config.steps)
    if before == config.steps:
        return ""
    state.parts = [*state.parts, (state.step, before)]
    if config.schedule == "constant" or state.step >= config.steps:
        return ""
    rate = learning_rate(state.step + 1, config, state.parts)
    return (
        f"{config.steps} steps instead of {before}: the learning rate continues at {rate:.2g}. For a restart at the "
        "full rate, begin a new run with this adapter."
    )


def _choose_kept_blocks(state: State, family: Family, config: TrainConfig, computer: Computer) -> str:
    """Choose again how many blocks keep activations, if the knob changed or this computer has less memory.

    Otherwise the checkpoint's number stays, even where more would fit: the last digits of the gradient depend on it,
    and a resumed run is exact.
    """
    count, now = len(family.blocks), memory.kept_blocks(family.architecture, config, computer)
    before = count if state.kept is None else state.kept
    same_knob = state.config.get("activations", default_of("activations")) == config.activations
    if now == before or (same_knob and (state.kept is None or now > before)):
        return ""
    state.kept = now
    return (
        f"From here on {now} of {count} blocks keep their activations, where {before} did before: the last digits can "
        "differ from those of a run that was never stopped."
    )


def as_json(config: TrainConfig) -> dict[str, Any]:
    """The settings as a checkpoint returns them: with lists in place of tuples."""
    table: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return table

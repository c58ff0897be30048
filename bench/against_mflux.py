"""A LoRA training step against mflux 0.24's, on small networks with random weights: time and peak memory.

    make interop                                         once: it sets up .venv-mflux
    python -m bench.against_mflux [--models klein z-image] [--batches 1 4] [--rounds 24]

Theirs is their real trainer, `TrainingTrainer.train`, whole: their training adapter, network, LoRA layers, loss,
iterator and AdamW, once as it is and once with its gradient checkpointing. Ours is core/training/step.py, once with all
activations kept and once with none. All four run in .venv-mflux, so with one MLX and one BLAS, each in a process of its
own, and take their steps in turn. What ours does with its process besides it does here too: on a CPU it compiles
nothing, and its steps keep freed memory (core/device/malloc.py). Widths, depths, tokens, batch, adapted layers and rank are
the same; that both count as many numbers in the base and in the adapter is checked.

    float32     time and memory. mflux computes in bfloat16 unless it is told otherwise, here by ModelConfig.precision
    bfloat16    memory alone: on a CPU its products are slow, and mflux's activations become float32 on the way

Left out: text encoders and VAE, of which a step has none, and mflux's plots and previews. A step of ours has a gradient
limit and a guard besides. Texts have 100 tokens, which both fill up to 128 for Z-Image; shorter ones mflux fills up to
32s, we to 128s. The layers are those of the blocks; what mflux's own example adapts beside them is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from bench import contest
from bench.contest import MIB
from bench.full_size import random_family, write_configs
from bench.training_step import RANK, describe, numbers_in, random_batch, randomize, step_of

PYTHON = Path(__file__).resolve().parents[1] / ".venv-mflux" / "bin" / "python"
FILLED_UP, TOLD = 128, 100  # tokens of a text: all, and its own
NEVER = 10**9
WHO = {"plain": "mflux", "kept": "ours, kept", "checkpointing": "mflux, checkpointing", "lean": "ours, lean"}
RIVALS = {"kept": "plain", "lean": "checkpointing"}


@dataclass(frozen=True, slots=True)
class Model:
    """A family: its full-size configs, what is smaller here, and the layers that are adapted, by names fitting both."""

    full_size: str
    family: str
    changes: dict[str, Any]
    layers: tuple[str, ...]
    shrunk: dict[str, Any]  # to try the command


MODELS = {
    "klein": Model(
        "klein-4b", "flux2",
        {"num_layers": 2, "num_single_layers": 4, "num_attention_heads": 6, "attention_head_dim": 64,
         "axes_dims_rope": (16, 16, 16, 16), "joint_attention_dim": 256},
        ("transformer_blocks.*", "single_transformer_blocks.*"),
        {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1},
    ),
    "z-image": Model(
        "z-image", "z_image",
        {"dim": 384, "n_layers": 6, "n_heads": 6, "n_kv_heads": 6, "axes_dims": (16, 24, 24), "cap_feat_dim": 256},
        ("layers.*.attention.*", "layers.*.feed_forward.*"),
        {"dim": 64, "n_layers": 1, "n_heads": 1, "n_kv_heads": 1},
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contest:
    """What all contestants of a contest share."""

    model: str
    dtype: str
    side: int
    batch: int
    shrink: bool

    def configs(self, folder: Path) -> Path:
        model = MODELS[self.model]
        return write_configs(folder, model.full_size, model.changes | (model.shrunk if self.shrink else {}))


def ours(what: Contest, activations: str) -> None:
    from core.device import backend

    backend.prepare()
    import mlx.core as mx

    model, dtype = MODELS[what.model], getattr(mx, what.dtype)
    with tempfile.TemporaryDirectory() as scratch:
        family = random_family(what.configs(Path(scratch)), model.full_size, None, dtype)
        width = family._config.get("joint_attention_dim") or family._config["cap_feat_dim"]
        told = {"tokens": mx.random.normal((what.batch, FILLED_UP, width)).astype(dtype)}
        if model.family == "z_image":
            told["lengths"] = mx.full((what.batch,), TOLD, dtype=mx.int32)
        one = random_batch(family, what.side, what.batch, told)
        base = numbers_in(family.transformer)
        step = step_of(family, one, {"activations": activations}, ",".join(model.layers))
        trained = numbers_in(family.transformer) - base
        contest.serve(describe() | {"base": base, "trained": trained}, step)


def theirs(what: Contest, checkpointing: bool) -> None:
    os.environ |= {"TQDM_DISABLE": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}  # what they print beside
    from core.device import backend, openblas

    taken = openblas.install(backend.cache_folder())  # the same BLAS; the rest is as they have it
    import mlx.core as mx
    import mlx.nn as nn
    from mflux.models.common.config.model_config import ModelConfig
    from mflux.models.common.training.dataset.dataset import Dataset
    from mflux.models.common.training.dataset.iterator import Iterator
    from mflux.models.common.training.lora import inject_lora_targets
    from mflux.models.common.training.optimization.optimizer import Optimizer
    from mflux.models.common.training.state import training_spec as specs
    from mflux.models.common.training.state.training_state import TrainingState
    from mflux.models.common.training.trainer import TrainingTrainer

    from tests.interop.mflux_side import FAMILIES

    ModelConfig.precision = getattr(mx, what.dtype)
    model = MODELS[what.model]
    with tempfile.TemporaryDirectory() as scratch:
        file = what.configs(Path(scratch)) / "transformer" / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
    network = FAMILIES[model.family].build(config)
    randomize(network, ModelConfig.precision)
    whole = nn.Module()  # in the place of their pipeline, which would read encoders and a VAE
    whole.transformer, whole.vae, whole.text_encoder = network, nn.Module(), nn.Module()
    base = numbers_in(whole)

    paths = [path for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    adapted = [path for path in paths if any(fnmatch(path, each) for each in model.layers)]
    spec = specs.TrainingSpec(
        model=what.model, model_path=None, seed=0, steps=20, guidance=1.0, quantize=None,
        training_loop=specs.TrainingLoopSpec(num_epochs=NEVER, batch_size=what.batch),
        optimizer=specs.OptimizerSpec(name="AdamW", learning_rate=1e-4),
        checkpoint=specs.CheckpointSpec(save_frequency=NEVER, output_path=""), monitoring=None,
        lora_layers=specs.LoraLayersSpec([specs.LoraTargetSpec(module_path=path, rank=RANK) for path in adapted]),
        statistics=None, data=[], gradient_checkpointing=checkpointing,
    )  # fmt: skip
    inject_lora_targets(network, spec.lora_layers.targets)
    mx.eval(whole.parameters())
    turns = contest.turns(describe(taken.name) | {"base": base, "trained": numbers_in(whole) - base})

    class Served(Iterator):
        """Their iterator, which gives out the next batch when the next step is asked for."""

        def __next__(self) -> Any:
            if next(turns, NEVER) == NEVER:
                raise SystemExit  # rather than StopIteration, after which a checkpoint is written
            return super().__next__()

    items = [_item(what, model.family, config, number) for number in range(what.batch)]
    iterator = Served(Dataset(items), what.batch, NEVER, seed=0)
    state = TrainingState(iterator, Optimizer.from_spec(spec), None)
    TrainingTrainer.train(adapter=_training_adapter(model.family, whole), training_spec=spec, training_state=state)


def _training_adapter(family: str, whole: Any) -> Any:
    """Their training adapter around a network; its own __init__ would read a model from disk."""
    from mflux.models.common.config.model_config import ModelConfig
    from mflux.models.flux2.training_adapter.flux2_training_adapter import Flux2TrainingAdapter
    from mflux.models.z_image.training_adapter.z_image_training_adapter import ZImageTrainingAdapter

    kind = Flux2TrainingAdapter if family == "flux2" else ZImageTrainingAdapter
    adapter = kind.__new__(kind)
    adapter._guidance = 1.0
    if family == "flux2":
        adapter._model_config, adapter._flux2 = ModelConfig.flux2_klein_base_4b(), whole
    else:
        adapter._model_config, adapter._z = ModelConfig.z_image(), whole
    return adapter


def _item(what: Contest, family: str, config: dict[str, Any], number: int) -> Any:
    """A photo of noise, encoded as their adapters encode one."""
    import mlx.core as mx
    from mflux.models.common.config.model_config import ModelConfig
    from mflux.models.common.training.dataset.batch import DataItem
    from mflux.models.flux2.latent_creator.flux2_latent_creator import Flux2LatentCreator
    from mflux.models.flux2.model.flux2_text_encoder.prompt_encoder import Flux2PromptEncoder

    def noise(*shape: int) -> mx.array:
        return mx.random.normal(shape, key=mx.random.key(number)).astype(ModelConfig.precision)

    rows = what.side // 16
    if family == "flux2":
        latents = noise(1, config["in_channels"], rows, rows)
        tokens = noise(1, FILLED_UP, config["joint_attention_dim"])
        clean = Flux2LatentCreator.pack_latents(latents)
        told: Any = {
            "prompt_embeds": tokens, "text_ids": Flux2PromptEncoder.prepare_text_ids(tokens),
            "img_ids": Flux2LatentCreator.prepare_grid_ids(latents, t_coord=0),
        }  # fmt: skip
    else:
        clean, told = noise(config["in_channels"], 1, 2 * rows, 2 * rows), noise(TOLD, config["cap_feat_dim"])
    mx.eval(clean, told)
    return DataItem(number, "", "", clean, told, what.side, what.side)


def compare(what: Contest, who: Sequence[str], count: int) -> dict[str, list[dict[str, float]]]:
    """`count` steps of each of these, taken in turn; raises SystemExit where they are not of one size."""
    told = [what.model, what.dtype, str(what.side), str(what.batch), *(["shrink"] if what.shrink else [])]
    running = [contest.Contestant(["-m", "bench.against_mflux", "--serve", each, *told], str(PYTHON)) for each in who]
    said = running[0].says
    try:
        if any(each.says != said for each in running):
            raise SystemExit(f"They are not of one size: {[each.says for each in running]}")
        return dict(zip(who, contest.rounds(running, count), strict=True))
    finally:
        for each in running:
            each.leave()


def serve(who: str, told: list[str]) -> None:
    model, dtype, side, batch, *shrink = told
    what = Contest(model, dtype, int(side), int(batch), bool(shrink))
    if who in RIVALS:
        ours(what, {"kept": "all", "lean": "none"}[who])
    else:
        theirs(what, who == "checkpointing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--side", type=int, default=256, help="px; a token is 16 x 16")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--shrink", action="store_true", help="one narrow block: to try the command, not to measure")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve[0], asked.serve[1:])
        return
    if not PYTHON.exists():
        raise SystemExit("mflux is not set up; `make interop` does that, and so does `make bench`.")
    print(f"rank {RANK}, {asked.side} px, {FILLED_UP} text tokens; ratios: to the line above, median of {asked.rounds}")
    print(f"{'model':<9}{'dtype':<10}{'batch':>5}  {'':<21}{'ms':>6}{'MB':>7}{'time':>7}{'below':>7}{'memory':>8}")
    for name in asked.models:
        for batch in asked.batches:
            report(Contest(name, "float32", asked.side, batch, asked.shrink), list(WHO), asked.rounds)
        report(Contest(name, "bfloat16", asked.side, 1, asked.shrink), ["checkpointing", "lean"], 2)


def report(what: Contest, who: Sequence[str], count: int) -> None:
    found = compare(what, who, count)
    for each, steps in found.items():
        timed = what.dtype == "float32"
        ms = f"{1e3 * statistics.median(contest.seconds(steps)):.0f}" if timed else "-"
        line = (
            f"{what.model:<9}{what.dtype:<10}{what.batch:>5}  {WHO[each]:<21}{ms:>6}{contest.peak(steps) / MIB:>7.0f}"
        )
        if each in RIVALS:
            rival = found[RIVALS[each]]
            median, bound = contest.ratio(contest.seconds(steps), contest.seconds(rival))
            line += f"{median:>7.2f}{bound:>7.2f}" if timed else f"{'-':>7}{'-':>7}"
            line += f"{contest.peak(steps) / contest.peak(rival):>8.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()

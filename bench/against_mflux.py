"""A LoRA training step against mflux 0.24's, on small networks with random weights: time and peak memory.

    make interop                                         once: it sets up .venv-mflux
    python -m bench.against_mflux [--models klein z-image] [--batches 1 4] [--rounds 24]

Theirs is their real trainer, `TrainingTrainer.train`, with their training adapter, network, LoRA layers, loss, iterator
and AdamW, once without and once with its gradient checkpointing. Ours is core/training/step.py, once with all
activations kept and once with none. All four run in .venv-mflux, so with the same MLX and BLAS, each in a process of
its own, and take their steps in turn. Our process settings apply to ours as in a run: on a CPU nothing is compiled, and
freed memory is kept between steps (core/device/malloc.py). Widths, depths, tokens, batch, adapted layers and rank are
the same; the bench checks that base and adapter have the same number of parameters.

    float32     time and memory; mflux computes in bfloat16 by default, so ModelConfig.precision is set
    bfloat16    memory alone: on a CPU its products are slow, and mflux's activations become float32 on the way

Left out: text encoders and VAE, which a step does not use, and mflux's plots and previews. Our step also clips the
gradient and checks it for NaN. Texts have 100 tokens, which both pad to 128 for Z-Image; mflux pads shorter ones to a
multiple of 32, we to one of 128. The adapted layers are those of the blocks; mflux's example adapts some others too.
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
from bench.random_models import count_parameters, random_family, randomize
from bench.real_models import write_configs
from bench.training_step import RANK, describe, random_batch, step_of
from bench.units import MIB

PYTHON = Path(__file__).resolve().parents[1] / ".venv-mflux" / "bin" / "python"
PADDED_TOKENS, TEXT_TOKENS = 128, 100
NEVER = 10**9
WHO = {"plain": "mflux", "kept": "ours, kept", "checkpointing": "mflux, checkpointing", "lean": "ours, lean"}
RIVALS = {"kept": "plain", "lean": "checkpointing"}


@dataclass(frozen=True, slots=True)
class Model:
    """A published model, the changes that make it small, and the adapted layers by patterns that fit both programs."""

    full_size: str
    family: str
    changes: dict[str, Any]
    layers: tuple[str, ...]
    shrunk: dict[str, Any]  # further changes, to try the command


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
    """The setting that all contestants share."""

    model: str
    dtype: str
    side: int
    batch: int
    shrink: bool

    def configs(self, folder: Path) -> Path:
        model = MODELS[self.model]
        return write_configs(folder, model.full_size, model.changes | (model.shrunk if self.shrink else {}))


def transformer_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))


def ours(what: Contest, activations: str) -> None:
    from core.device import backend

    backend.prepare()
    import mlx.core as mx

    model, dtype = MODELS[what.model], getattr(mx, what.dtype)
    with tempfile.TemporaryDirectory() as scratch:
        family = random_family(what.configs(Path(scratch)), model.full_size, None, dtype)
        config = transformer_config(Path(scratch))
        width = config.get("joint_attention_dim") or config["cap_feat_dim"]
        text = {"tokens": mx.random.normal((what.batch, PADDED_TOKENS, width)).astype(dtype)}
        if model.family == "z_image":
            text["lengths"] = mx.full((what.batch,), TEXT_TOKENS, dtype=mx.int32)
        one = random_batch(family, what.side, what.batch, text)
        base = count_parameters(family.transformer)
        step = step_of(family, one, {"activations": activations}, ",".join(model.layers))
        trained = count_parameters(family.transformer) - base
        contest.serve(describe() | {"base": base, "trained": trained}, step)


def theirs(what: Contest, checkpointing: bool) -> None:
    os.environ |= {"TQDM_DISABLE": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}  # silence their progress bars
    from core.device import openblas
    from core.device.identity import cache_folder

    blas = openblas.install(cache_folder())  # the same BLAS; everything else is their own
    import mlx.core as mx
    import mlx.nn as nn
    from mflux.models.common.config.model_config import ModelConfig
    from mflux.models.common.training.dataset.dataset import Dataset
    from mflux.models.common.training.dataset.iterator import Iterator
    from mflux.models.common.training.lora import inject_lora_targets
    from mflux.models.common.training.optimization.optimizer import Optimizer
    from mflux.models.common.training.state.training_state import TrainingState
    from mflux.models.common.training.trainer import TrainingTrainer

    from tests.interop.mflux_side import FAMILIES

    ModelConfig.precision = getattr(mx, what.dtype)
    model = MODELS[what.model]
    with tempfile.TemporaryDirectory() as scratch:
        config = transformer_config(what.configs(Path(scratch)))
    network = FAMILIES[model.family].build(config)
    randomize(network, ModelConfig.precision)
    pipeline = nn.Module()  # in place of theirs, which would read text encoders and a VAE
    pipeline.transformer, pipeline.vae, pipeline.text_encoder = network, nn.Module(), nn.Module()
    base = count_parameters(pipeline)

    paths = [path for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    adapted = [path for path in paths if any(fnmatch(path, each) for each in model.layers)]
    spec = _training_spec(what, adapted, checkpointing)
    inject_lora_targets(network, spec.lora_layers.targets)
    mx.eval(pipeline.parameters())
    turns = contest.turns(describe(blas.name) | {"base": base, "trained": count_parameters(pipeline) - base})

    class Served(Iterator):
        """Their iterator, which waits for the next turn before it returns a batch."""

        def __next__(self) -> Any:
            if next(turns, NEVER) == NEVER:
                raise SystemExit  # rather than StopIteration, after which a checkpoint is written
            return super().__next__()

    items = [_item(what, model.family, config, number) for number in range(what.batch)]
    iterator = Served(Dataset(items), what.batch, NEVER, seed=0)
    state = TrainingState(iterator, Optimizer.from_spec(spec), None)
    TrainingTrainer.train(adapter=_training_adapter(model.family, pipeline), training_spec=spec, training_state=state)


def _training_spec(what: Contest, adapted: Sequence[str], checkpointing: bool) -> Any:
    """Their settings of a run that never saves, on these layers."""
    from mflux.models.common.training.state import training_spec as specs

    return specs.TrainingSpec(
        model=what.model, model_path=None, seed=0, steps=20, guidance=1.0, quantize=None,
        training_loop=specs.TrainingLoopSpec(num_epochs=NEVER, batch_size=what.batch),
        optimizer=specs.OptimizerSpec(name="AdamW", learning_rate=1e-4),
        checkpoint=specs.CheckpointSpec(save_frequency=NEVER, output_path=""), monitoring=None,
        lora_layers=specs.LoraLayersSpec([specs.LoraTargetSpec(module_path=path, rank=RANK) for path in adapted]),
        statistics=None, data=[], gradient_checkpointing=checkpointing,
    )  # fmt: skip


def _training_adapter(family: str, pipeline: Any) -> Any:
    """Their training adapter around a network; its own __init__ would read a model from disk."""
    from mflux.models.common.config.model_config import ModelConfig
    from mflux.models.flux2.training_adapter.flux2_training_adapter import Flux2TrainingAdapter
    from mflux.models.z_image.training_adapter.z_image_training_adapter import ZImageTrainingAdapter

    kind = Flux2TrainingAdapter if family == "flux2" else ZImageTrainingAdapter
    adapter = kind.__new__(kind)
    adapter._guidance = 1.0
    if family == "flux2":
        adapter._model_config, adapter._flux2 = ModelConfig.flux2_klein_base_4b(), pipeline
    else:
        adapter._model_config, adapter._z = ModelConfig.z_image(), pipeline
    return adapter


def _item(what: Contest, family: str, config: dict[str, Any], number: int) -> Any:
    """Noise in the form of a photo encoded by their training adapters."""
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
        tokens = noise(1, PADDED_TOKENS, config["joint_attention_dim"])
        clean = Flux2LatentCreator.pack_latents(latents)
        text: Any = {
            "prompt_embeds": tokens, "text_ids": Flux2PromptEncoder.prepare_text_ids(tokens),
            "img_ids": Flux2LatentCreator.prepare_grid_ids(latents, t_coord=0),
        }  # fmt: skip
    else:
        clean, text = noise(config["in_channels"], 1, 2 * rows, 2 * rows), noise(TEXT_TOKENS, config["cap_feat_dim"])
    mx.eval(clean, text)
    return DataItem(number, "", "", clean, text, what.side, what.side)


def compare(what: Contest, who: Sequence[str], count: int) -> dict[str, list[dict[str, float]]]:
    """`count` steps of each of these, taken in turn. Raises SystemExit where their sizes differ."""
    setting = [what.model, what.dtype, str(what.side), str(what.batch), *(["shrink"] if what.shrink else [])]
    running = [
        contest.Contestant(["-m", "bench.against_mflux", "--serve", each, *setting], str(PYTHON)) for each in who
    ]
    first = running[0].description
    try:
        if any(each.description != first for each in running):
            raise SystemExit(f"Their sizes differ: {[each.description for each in running]}")
        return dict(zip(who, contest.rounds(running, count), strict=True))
    finally:
        for each in running:
            each.close()


def serve(who: str, setting: list[str]) -> None:
    model, dtype, side, batch, *shrink = setting
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
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], options.serve[1:])
        return
    if not PYTHON.exists():
        raise SystemExit("mflux is not set up; `make interop` does that, and so does `make bench`.")
    print(f"rank {RANK}, {options.side} px, {PADDED_TOKENS} text tokens; ratios to mflux, median of {options.rounds}")
    print(f"{'model':<9}{'dtype':<10}{'batch':>5}  {'':<21}{'ms':>6}{'MB':>7}{'time':>7}{'below':>7}{'memory':>8}")
    for name in options.models:
        for batch in options.batches:
            report(Contest(name, "float32", options.side, batch, options.shrink), list(WHO), options.rounds)
        report(Contest(name, "bfloat16", options.side, 1, options.shrink), ["checkpointing", "lean"], 2)


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

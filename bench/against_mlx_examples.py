"""Time and peak memory of a training step of FLUX.1 with random weights, ours against mlx-examples'.

    git clone https://github.com/ml-explore/mlx-examples
    python -m bench.against_mlx_examples mlx-examples/flux             FLUX.1-dev at full size: a GPU of 140 GB
    python -m bench.against_mlx_examples mlx-examples/flux --small     384 wide, 2 + 4 blocks, float32: any machine

Theirs is their own network, loss, LoRA layer and Adam, compiled as their dreambooth.py compiles a step; ours is
core/training/step.py, with the activations of all blocks kept, of half of them, of a third, and of none. Both adapt, at
rank 16, every linear layer of the blocks but modulation; theirs are fewer and wider, since q, k and v are one layer.
Latents, text and batch are the same. With --small, steps are taken in turn; at full size one contestant runs after the
other, since the card does not hold two. Neither loads a text encoder or a VAE. Our step also clips the gradient and
checks it for NaN. 384 px at that width has the ratio of tokens to width that FLUX.1 has at 1,024 px.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import contest
from bench.random_models import random_family, randomize
from bench.real_models import write_configs
from bench.training_step import RANK, describe, random_batch, step_of
from bench.units import GIB

SMALL = {"num_layers": 2, "num_single_layers": 4, "num_attention_heads": 6, "attention_head_dim": 64,
         "axes_dims_rope": (16, 24, 24), "joint_attention_dim": 256}  # fmt: skip
MODES = {"all": "ours, kept", "half": "ours, half", "third": "ours, third", "none": "ours, lean"}
SHARES = {"half": 2, "third": 3}


def inputs(side: int, batch: int, text: int, width: int) -> tuple[Any, Any, Any]:
    """Latents (B, H, W, 16), T5's features and CLIP's vector, the same for both."""
    import mlx.core as mx

    shapes = ((batch, side // 8, side // 8, 16), (batch, text, width), (batch, 768))
    return tuple(mx.random.normal(shape, key=mx.random.key(number)) for number, shape in enumerate(shapes))


def ours(side: int, batch: int, activations: str, small: bool) -> None:
    from core.device import backend

    backend.prepare()
    from core.models.patches import pack

    with tempfile.TemporaryDirectory() as scratch:
        family = random_family(write_configs(Path(scratch), "flux1-dev", SMALL if small else {}), "flux1-dev", None)
        latents, tokens, pooled = inputs(side, batch, 32 if small else 512, 256 if small else 4096)
        conditioning = {"tokens": tokens.astype(family.dtype), "pooled": pooled.astype(family.dtype)}
        one = replace(random_batch(family, side, batch, conditioning), clean_BLC=pack(latents))
        kept = len(family.blocks) // SHARES[activations] if activations in SHARES else activations
        contest.serve(describe(), step_of(family, one, {"activations": kept}))


def theirs(folder: Path, side: int, batch: int, small: bool) -> None:
    sys.path.insert(0, str(folder))
    from core.device import backend

    backend.prepare()  # the same BLAS
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optim
    from flux.flux import FluxPipeline
    from flux.lora import LoRALinear
    from flux.model import Flux
    from flux.sampler import FluxSampler
    from flux.utils import configs
    from mlx.utils import tree_unflatten

    dtype = mx.float32 if small else mx.bfloat16
    sizes = configs["flux-dev"].params
    if small:
        for name, value in {
            "hidden_size": 384, "num_heads": 6, "depth": 2, "depth_single_blocks": 4, "axes_dim": [16, 24, 24],
            "context_in_dim": 256,
        }.items():  # fmt: skip
            setattr(sizes, name, value)
        mx.enable_compile()
    pipeline = FluxPipeline.__new__(FluxPipeline)  # its __init__ downloads encoders, which a step does not use
    pipeline.dtype, pipeline.name, pipeline.sampler = dtype, "flux-dev", FluxSampler("flux-dev")
    pipeline.flow = Flux(sizes)
    randomize(pipeline.flow, dtype)
    for block in [*pipeline.flow.double_blocks, *pipeline.flow.single_blocks]:
        linear = [(name, layer) for name, layer in block.named_modules() if isinstance(layer, nn.Linear)]
        adapted = [(name, LoRALinear.from_base(layer, r=RANK)) for name, layer in linear if "mod" not in name]
        block.update_modules(tree_unflatten(adapted))
    optimizer = optim.Adam(learning_rate=1e-4)
    state = [pipeline.flow.state, optimizer.state, mx.random.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def single_step(x: mx.array, t5: mx.array, clip: mx.array, guidance: mx.array) -> mx.array:
        loss, grads = nn.value_and_grad(pipeline.flow, pipeline.training_loss)(x, t5, clip, guidance)
        optimizer.update(pipeline.flow, grads)
        return loss

    arrays = [each.astype(dtype) for each in inputs(side, batch, 32 if small else 512, 256 if small else 4096)]
    guidance = mx.full((batch,), 4.0, dtype=dtype)
    mx.eval(arrays, guidance)
    contest.serve(describe(), lambda: mx.eval(single_step(*arrays, guidance), state))


def command(who: str, options: argparse.Namespace, side: int, batch: int) -> list[str]:
    given = ["-m", "bench.against_mlx_examples", str(options.folder), "--serve", who, "--shapes", f"{side}x{batch}"]
    return [*given, *(["--small"] if options.small else [])]


def measured(who: str, options: argparse.Namespace, side: int, batch: int) -> tuple[list[float], float]:
    """Seconds of every step after two warm ones, and their peak bytes."""
    one = contest.Contestant(command(who, options, side, batch))
    (steps,) = contest.rounds([one], options.steps)
    one.close()
    return contest.seconds(steps), contest.peak(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder flux of a clone of mlx-examples")
    parser.add_argument("--shapes", nargs="+", help="side x batch, such as 512x1 512x4 1024x1")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--serve", choices=["theirs", *MODES], help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.steps = options.steps or (24 if options.small else 5)
    options.shapes = options.shapes or (["256x1", "384x1", "256x4"] if options.small else ["512x1", "512x4", "1024x1"])
    shapes = [tuple(map(int, each.split("x"))) for each in options.shapes]
    if options.serve == "theirs":
        theirs(options.folder, *shapes[0], options.small)
    elif options.serve:
        ours(*shapes[0], options.serve, options.small)
    else:
        compare(options, shapes)


def compare(options: argparse.Namespace, shapes: list[tuple[int, ...]]) -> None:
    print(f"{'px':>5}{'batch':>6}  {'':<13}{'ms':>8}{'GiB':>8}{'time':>8}{'below':>8}{'memory':>8}")
    for side, batch in shapes:
        rival, rival_peak = measured("theirs", options, side, batch)
        shape = f"{side:>5}{batch:>6}"
        print(f"{shape}  {'mlx-examples':<13}{milliseconds(rival):>8.0f}{rival_peak / GIB:>8.2f}", flush=True)
        for mode, name in MODES.items():
            taken, peak = measured(mode, options, side, batch)
            against = rival
            if options.small:
                both = [contest.Contestant(command(who, options, side, batch)) for who in (mode, "theirs")]
                taken, against = map(contest.seconds, contest.rounds(both, options.steps))
                for each in both:
                    each.close()
            median, bound = contest.ratio(taken, against)
            line = f"{shape}  {name:<13}{milliseconds(taken):>8.0f}{peak / GIB:>8.2f}"
            print(f"{line}{median:>8.2f}{bound:>8.2f}{peak / rival_peak:>8.2f}", flush=True)


def milliseconds(seconds: list[float]) -> float:
    return 1e3 * statistics.median(seconds)


if __name__ == "__main__":
    main()

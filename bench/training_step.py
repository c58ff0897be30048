"""One training step on a network with random weights, to be timed as often as a bench likes.

    family = random_family(write_configs(folder, "klein-4b", changes), "klein-4b", None)     bench/random_models.py
    take_step = step_of(family, random_batch(family, 256, 1, conditioning), {"rank": 16})
    take_step()                                                                              core/training/step.py

It is the step of a run, with its optimizer, gradient clipping and guard. Batch and sigma are the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.device import backend

RANK = 16


def random_batch(
    family: Any, side_px: int, batch: int, conditioning: Mapping[str, Any], width_px: int | None = None
) -> Any:
    """A batch of noise in place of photos, square or `width_px` wide, at sigma 0.5; evaluated."""
    import mlx.core as mx

    from core.dataset.batches import Batch

    grid = family.grid(side_px, width_px or side_px)
    shape = (batch, grid.tokens, grid.channels)
    clean_BLC, noise_BLC = (mx.random.normal(shape, key=mx.random.key(number)) for number in range(2))
    one = Batch(clean_BLC, noise_BLC, mx.full((batch,), 0.5), dict(conditioning), grid)
    mx.eval(one.clean_BLC, one.noise_BLC, one.sigma_B, one.conditioning)
    return one


def step_of(family: Any, batch: Any, knobs: Mapping[str, Any], targets: str = "all_linear") -> Callable[[], Any]:
    """A function that takes one step.

    The knob `activations` is "all", "none", or the number of blocks that keep theirs, which a run works out itself.
    """
    import mlx.core as mx

    from core.adapters import lora
    from core.adapters.layers import resolve_targets
    from core.config.resolve import resolve
    from core.training.checkpoint import State
    from core.training.optimizers import OPTIMIZERS
    from core.training.step import Step
    from core.training.update import init

    knobs = {"rank": RANK, "batch_size": batch.clean_BLC.shape[0], "warmup_steps": 0} | dict(knobs)
    kept = knobs.pop("activations", "all")
    config = resolve(knobs).config
    paths = resolve_targets(family.architecture.layers, targets)
    adapter = lora.attach(family.transformer, paths, config.rank, config.rank, mx.random.key(0))
    parameters = adapter.parameters()
    state = State(0, parameters, init(OPTIMIZERS[config.optimizer], parameters, with_ema=False), {}, "", {}, 0)
    state.kept = {"all": None, "none": 0}.get(kept, kept)
    taker = Step(family, adapter, config, state)

    class Same:
        def batch(self, step: int, micro: int) -> Any:
            return batch

        def photos(self, step: int, micro: int) -> tuple[int, ...]:
            return tuple(range(config.batch_size))

        def first_index(self, step: int) -> int:
            return step

    leave = 1 if backend.policy().runs_ahead else 0

    def step() -> list[Any]:
        """As the training loop does it: on devices that run ahead, it is queued before the previous one is read."""
        taker.submit(state.step + 1, Same())
        return list(taker.read(leave))

    return step


def describe(blas: str = "") -> dict[str, str]:
    """Device, MLX version and BLAS; `blas` where the caller has loaded it without `backend.prepare()`."""
    import mlx.core as mx

    device = str(mx.device_info().get("device_name", "cpu"))
    return {"device": device, "mlx": mx.__version__, "blas": blas or backend.prepare().blas.name}

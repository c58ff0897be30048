"""The schedule equals what FluxPipeline asks FlowMatchEulerDiscreteScheduler for, and so does a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps

from core import flow

DEV = {"use_dynamic_shifting": True, "shift": 3.0, "base_shift": 0.5, "max_shift": 1.15}


def reference_sigmas(config: dict, steps: int, tokens: int) -> list[float]:
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    sigmas = np.linspace(1.0, 1 / steps, steps)
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=sigmas, mu=calculate_shift(tokens, 256, 4096, 0.5, 1.15))
    return scheduler.sigmas.tolist()


@pytest.mark.parametrize("steps", [1, 2, 7, 28, 50])
@pytest.mark.parametrize("tokens", [64, 256, 1024, 4096])
def test_dynamic_shift_is_flux1_devs(steps: int, tokens: int) -> None:
    ours = flow.schedule(steps, flow.dynamic_shift(tokens))
    assert ours == pytest.approx(reference_sigmas(DEV, steps, tokens), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4, 28])
def test_static_shift_is_the_schedulers(steps: int, shift: float) -> None:
    expected = reference_sigmas({"shift": shift, "use_dynamic_shifting": False}, steps, 256)
    assert flow.schedule(steps, shift) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_a_step_is_the_schedulers() -> None:
    import mlx.core as mx

    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.25, 4))
    sample, velocity = torch.randn(1, 6, 4), torch.randn(1, 6, 4)
    expected = scheduler.step(velocity, scheduler.timesteps[0], sample, return_dict=False)[0]
    sigmas = flow.schedule(4, 2.0)
    ours = flow.euler_step(mx.array(sample.numpy()), mx.array(velocity.numpy()), sigmas[0], sigmas[1])
    assert np.allclose(np.array(ours), expected.numpy(), atol=1e-6)

"""The bench that says what a step's time goes into counts right."""

from __future__ import annotations

import pytest

from bench import kernels
from bench.training_step import random_batch
from core.models.base import Family


def test_time_is_busy_once_where_kernels_run_side_by_side() -> None:
    assert kernels.busy([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNN", "matrix products"),
        ("void cutlass::device_kernel<flash::enable_sm90>", "attention"),
        ("void mlx::core::cu::rms_norm_small<__nv_bfloat16>", "norms"),
        ("MultiplyAddV", "element by element"),
    ],
)
def test_a_kernel_is_known_by_its_name(name: str, kind: str) -> None:
    assert kernels.kind_of(name) == kind


def test_matrix_work_is_that_of_the_products(family: Family) -> None:
    batch = random_batch(family, 64, 2, family.encode_text(["a photo", "a dog"]))
    once, again = (kernels.matrix_tflop(family, batch, recompute=flag) for flag in (False, True))
    forward = again - once
    attention = once - 2 * forward  # which has four products on the way back, where a linear layer has one
    tokens = batch.grid.tokens + batch.conditioning["tokens"].shape[1]
    width = max(stack.width for stack in family.architecture.stacks)
    assert attention == pytest.approx(len(family.blocks) * 4 * 2 * tokens**2 * width / 1e12)

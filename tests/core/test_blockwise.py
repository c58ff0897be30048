"""A velocity computed block by block is the family's own, whatever adapters are on it."""

from __future__ import annotations

from types import SimpleNamespace

import mlx.core as mx
import pytest

from core.models.base import Family
from core.models.blockwise import BlockwiseVelocity
from core.models.load import load_family
from tests.core.test_gradient import FOLDERS, attached


@pytest.fixture(scope="module", params=[(name, bits) for name in FOLDERS for bits in (None, 4)], ids=str)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    name, bits = request.param
    return load_family(FOLDERS[name](tmp_path_factory.mktemp("model") / name), quantize=bits)


def inputs(family: Family) -> tuple[object, ...]:
    grid = family.grid(32, 64)
    l_t = mx.random.normal((2, grid.tokens, grid.channels), key=mx.random.key(2))
    return l_t, mx.array([0.3, 0.8]), family.encode_text(["a red can", "a cup of tea at night"]), grid, 3.5


def test_it_is_the_velocity_with_adapters_and_without(family: Family) -> None:
    blockwise, arguments = BlockwiseVelocity(family), inputs(family)
    bare = family.velocity(*arguments)
    assert mx.allclose(blockwise(*arguments), bare, atol=1e-6).item()
    adapters = [attached(family)]
    adapters[0].strength = 0.7
    try:
        adapted = family.velocity(*arguments)
        assert mx.allclose(BlockwiseVelocity(family)(*arguments), adapted, atol=1e-6).item()
        assert not mx.allclose(adapted, bare, atol=1e-3).item()
    finally:
        adapters[0].detach()


def test_it_follows_the_arrays_of_an_adapter(family: Family) -> None:
    adapter, arguments = attached(family), inputs(family)
    try:
        blockwise = BlockwiseVelocity(family)
        before = blockwise(*arguments)
        adapter.update({name: 2 * value for name, value in adapter.parameters().items()})
        assert mx.allclose(blockwise(*arguments), family.velocity(*arguments), atol=1e-6).item()
        assert not mx.allclose(blockwise(*arguments), before, atol=1e-3).item()
    finally:
        adapter.detach()


def test_a_block_reads_only_the_shape_of_what_earlier_blocks_changed_and_it_does_not(family: Family) -> None:
    """Else a recomputed block would lose the gradient of that array (`Block`)."""
    stream, changed = family.embed(*inputs(family)), set()
    for block in family.blocks:
        after = block.run(block.module, stream)
        own = {name for name in stream if after[name] is not stream[name]}
        shapes = {name: SimpleNamespace(shape=stream[name].shape) for name in changed - own}
        again = block.run(block.module, {**stream, **shapes})
        assert all(mx.array_equal(again[name], after[name]).item() for name in own)
        stream, changed = after, changed | own

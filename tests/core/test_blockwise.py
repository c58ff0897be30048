"""A network walked block by block says what it says at once, whatever adapters are on it."""

from __future__ import annotations

import mlx.core as mx
import pytest

from core.models.base import Family
from core.models.blockwise import Walk
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


def test_a_walk_is_the_velocity_with_adapters_and_without(family: Family) -> None:
    walk, arguments = Walk(family), inputs(family)
    bare = family.velocity(*arguments)
    assert mx.allclose(walk(*arguments), bare, atol=1e-6).item()
    adapters = [attached(family)]
    adapters[0].strength = 0.7
    try:
        heard = family.velocity(*arguments)
        assert mx.allclose(Walk(family)(*arguments), heard, atol=1e-6).item()
        assert not mx.allclose(heard, bare, atol=1e-3).item()
    finally:
        adapters[0].detach()


def test_a_walk_hears_what_an_adapter_has_learned_since(family: Family) -> None:
    adapter, arguments = attached(family), inputs(family)
    try:
        walk = Walk(family)
        before = walk(*arguments)
        adapter.update({name: 2 * value for name, value in adapter.parameters().items()})
        assert mx.allclose(walk(*arguments), family.velocity(*arguments), atol=1e-6).item()
        assert not mx.allclose(walk(*arguments), before, atol=1e-3).item()
    finally:
        adapter.detach()

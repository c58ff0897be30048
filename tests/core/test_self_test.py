"""The self-test finds each kernel that is wrong, replaces it, says so, and is not repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from core import self_test
from core.device import backend, capabilities, first_test
from core.device.capabilities import KERNELS, Result
from core.device.identity import Identity, this_machine
from core.numerics import attention as attention_module
from core.numerics import exponentials, layers, rope

MAC = Identity("metal", "Apple M5 Max", "macOS 26.1 (25B78)", "0.32.4")


@pytest.fixture(autouse=True)
def _own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.delenv("LIKENESS_SELFTEST", raising=False)
    with capabilities.replaced():
        yield


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX's own kernels on this CPU, as GPUs use them: packed products, its exponentials, its convolution."""
    policy = replace(backend.policy(), packed_products=True)
    monkeypatch.setattr(backend, "policy", lambda: policy)
    monkeypatch.setattr(exponentials, "exponentials_are_slow", lambda: False)


@pytest.mark.slow
def test_all_kernels_that_this_computer_uses_are_right() -> None:
    results = list(self_test.results_of())
    assert [each.kernel for each in results] == self_test.applicable()
    assert not [each for each in results if not each.right], results
    assert sum(each.seconds for each in results) < 20
    assert not capabilities.sentences(results)


@pytest.mark.slow
def test_rounding_to_bfloat16_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on GPUs. On an H200 the largest numbers of a gradient were once taken for a wrong kernel."""
    policy = replace(backend.policy(), dtype="bfloat16")
    monkeypatch.setattr(backend, "policy", lambda: policy)
    results = list(self_test.results_of(["attention_gradient", "quantization", "norm"]))
    assert [each.right for each in results] == [True] * 3, results


def _off(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, half as much again wherever its first number is above another: a wrong tile."""

    def wrong(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        return [_off_by_half(each) for each in found] if isinstance(found, list | tuple) else _off_by_half(found)

    return wrong


def _off_by_half(y: mx.array) -> mx.array:
    return y if y.dtype == mx.uint32 else mx.concatenate([y[..., :-8], y[..., -8:] * 1.5], axis=-1)


WRONG: dict[str, tuple[Any, str]] = {
    "exponentials": (mx, "sigmoid"),
    "norm": (mx.fast, "rms_norm"),
    "rotation": (rope, "rotate_with_mlx"),
    "convolution": (mx, "conv_general"),
    "attention": (mx.fast, "scaled_dot_product_attention"),
    "quantization": (mx, "dequantize"),
    "quantized_product": (mx, "quantized_matmul"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", WRONG)
def test_a_wrong_kernel_is_found_and_replaced_and_reported(
    kernel: str, monkeypatch: pytest.MonkeyPatch, as_on_a_gpu: None
) -> None:
    module, name = WRONG[kernel]
    if kernel == "rotation" and backend.prepare().device == "cuda":  # which has a kernel of ours
        cuda_kernel = _off(rope.pair_kernel())
        monkeypatch.setattr(rope, "pair_kernel", lambda: cuda_kernel)
    monkeypatch.setattr(module, name, _off(getattr(module, name)))
    (found,) = self_test.results_of([kernel])
    assert (found.right, found.fallback_right) == (False, True), found
    (sentence,) = capabilities.sentences([found])
    assert KERNELS[kernel].words in sentence
    assert f"It is replaced by {KERNELS[kernel].fallback}." in sentence


def test_a_wrong_gradient_of_attention_is_found_and_replaced(
    monkeypatch: pytest.MonkeyPatch, as_on_a_gpu: None
) -> None:
    kernel = mx.fast.scaled_dot_product_attention

    def wrong(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        @mx.custom_function
        def right_forward(*arrays: mx.array) -> mx.array:
            return kernel(*arrays, **options)

        @right_forward.vjp
        def _(primals: Sequence[mx.array], g: mx.array, out: mx.array) -> list[mx.array]:
            return [_off_by_half(each) for each in mx.vjp(lambda *a: [kernel(*a, **options)], list(primals), [g])[1]]

        return right_forward(q, k, v)

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", wrong)
    attention, gradient = self_test.results_of(["attention", "attention_gradient"])
    assert attention.right
    assert (gradient.right, gradient.fallback_right) == (False, True), gradient


def test_wrong_gathers_and_compiled_functions_are_found_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = layers.embed

    def gathered(table: mx.array, ids: mx.array) -> mx.array:
        return whole(table, ids - 1 if capabilities.uses("embedding") else ids)

    monkeypatch.setattr(self_test, "embed", gathered)
    (found,) = self_test.results_of(["embedding"])
    assert (found.right, found.fallback_right) == (False, True), found

    policy = replace(backend.policy(), compiles=True)
    monkeypatch.setattr(backend, "policy", lambda: policy)
    monkeypatch.setattr(mx, "compile", _off)
    (found,) = self_test.results_of(["compiled"])
    assert (found.right, found.fallback_right) == (False, True), found


def test_wrong_products_are_found_and_replaced_before_mlx_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "matmul", _off(mx.matmul))
    (found,) = self_test.results_of(["float32_product"])
    assert (found.right, found.fallback_right) == (False, None)

    def lines(kernels: Sequence[str], fallbacks: str) -> Iterator[str]:
        right = "float32_product" in fallbacks
        yield json.dumps({"kernels": ["float32_product"]})
        yield json.dumps({"begins": "float32_product"})
        yield json.dumps(replace(found, right=right).as_json())

    (result,) = first_test.run_test(lines)
    assert (result.right, result.fallback_right) == (False, True)


def test_wrong_products_of_16_bits_are_found_and_float32_takes_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = replace(backend.policy(), dtype="bfloat16")  # as on a GPU
    monkeypatch.setattr(backend, "policy", lambda: policy)
    (found,) = self_test.results_of(["product"])
    assert found.right, found

    product = mx.matmul
    monkeypatch.setattr(
        mx, "matmul", lambda a, b: _off_by_half(product(a, b)) if a.dtype == mx.bfloat16 else product(a, b)
    )
    (found,) = self_test.results_of(["product"])
    assert (found.right, found.fallback_right) == (False, True), found
    (sentence,) = capabilities.sentences([found])
    assert KERNELS["product"].words in sentence
    assert f"It is replaced by {KERNELS['product'].fallback}." in sentence
    assert [each.right for each in self_test.results_of(["float32_product"])] == [True]


@pytest.mark.skipif(backend.prepare().device != "cpu", reason="only a CPU's products have a fallback without OpenBLAS")
def test_the_fallback_of_products_takes_no_openblas(tmp_path: Path) -> None:
    (line,) = [
        json.loads(each) for each in first_test.in_a_process(["float32_product"], "float32_product") if "error" in each
    ]
    assert line["right"], line


def test_a_kernel_that_kills_its_process_is_found_and_the_others_are_still_tested() -> None:
    runs: list[tuple[list[str], str]] = []

    def lines(kernels: Sequence[str], fallbacks: str) -> Iterator[str]:
        runs.append((list(kernels), fallbacks))
        names = list(kernels) or ["norm", "attention", "quantization"]
        yield json.dumps({"kernels": names})
        yield "libc++abi: some words of a library\n"
        for name in names:
            yield json.dumps({"begins": name})
            if name == "attention" and "attention" not in fallbacks:
                return
            yield json.dumps(Result(name, True, 1e-6, 1e-3).as_json())

    results = {each.kernel: each for each in first_test.run_test(lines)}
    assert list(results) == ["norm", "attention", "quantization"]
    assert [each.right for each in results.values()] == [True, False, True]
    assert results["attention"].fallback_right
    assert "did not finish in the self-test" in capabilities.sentences(results.values())[0]
    assert runs == [([], ""), (["attention"], "attention"), (["quantization"], "attention")]


def test_a_computer_is_tested_once_and_again_after_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def once() -> list[Result]:
        runs.append(1)
        return [Result("norm", False, 0.7, 1e-3, fallback_right=True)]

    monkeypatch.setattr(first_test, "run_test", once)
    machines = [this_machine()]
    monkeypatch.setattr(first_test, "this_machine", lambda: machines[-1])
    words: list[str] = []
    first, second = first_test.ensure_tested(words.append), first_test.ensure_tested(words.append)
    assert first == second
    assert "layer and RMS normalization was off by 7.0e-01" in first[0]
    assert (len(runs), len(words)) == (1, 1)
    assert not capabilities.uses("norm")

    machines.append(replace(MAC, mlx="0.33.0"))
    first_test.ensure_tested()
    assert len(runs) == 2
    assert capabilities.recall(machines[0]), "the older results stay"

    monkeypatch.setenv("LIKENESS_SELFTEST", "off")
    machines.append(replace(MAC, system="macOS 27.0"))
    assert first_test.ensure_tested() == []
    assert len(runs) == 2


def test_results_that_cannot_be_read_are_no_results(tmp_path: Path) -> None:
    for content in ("no json", "{}", '{"tested": [1, {"key": {}}]}', '{"tested": [{"key": null, "results": 3}]}'):
        (tmp_path / capabilities.FILE).write_text(content)
        assert capabilities.recall(MAC) is None
    capabilities.remember(MAC, [Result("norm", True, 0.0, 1.0)])
    assert capabilities.recall(MAC) == [Result("norm", True, 0.0, 1.0)]


def test_a_person_can_ask_for_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_FALLBACKS", "norm,unheard-of")
    capabilities.activate([])
    assert not capabilities.uses("norm")
    assert capabilities.uses("attention")


def test_metals_fused_gradient_is_taken_only_where_the_test_proved_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr(attention_module, "prepare", lambda: replace(backend.prepare(), device="metal"))
    monkeypatch.setattr(attention_module, "uses_powers_of_two", lambda q: False)
    monkeypatch.setattr(attention_module, "SCORES_AT_MOST", 1024)
    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", lambda q, k, v, **options: (taken.append("MLX"), q)[1])
    monkeypatch.setattr(attention_module, "in_chunks", lambda scale: lambda q, *rest: (taken.append("chunks"), q)[1])
    q, mask = mx.ones((1, 2, 64, 64)), mx.ones((1, 1, 1, 64), dtype=mx.bool_)
    attention_module.attention(q, q, q, 0.1)
    with capabilities.replaced(proven=["fused_gradient"]):
        attention_module.attention(q, q, q, 0.1)
        attention_module.attention(q, q, q, 0.1, mask)
    with capabilities.replaced("attention_gradient", proven=["fused_gradient"]):
        attention_module.attention(q, q, q, 0.1)
    assert taken == ["chunks", "MLX", "chunks", "chunks"]

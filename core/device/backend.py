"""Which device computes, in which dtype, compiled or not, and with how much memory: decided here for every platform.

               dtype      compiled   matrix products        quantized   memory
    metal      bfloat16   yes        MLX's own              packed      weights wired up to what Metal recommends
    cuda       bfloat16   yes        cuBLAS                 unpacked    a cache of a quarter of the card
    cpu        float32    no         OpenBLAS (core.device.openblas)   unpacked    what a step frees is kept (core.device.malloc)

Quantized: whether products with a quantized weight are taken from its packed form, or from a copy that is unpacked for
the one product (core/models/quantized.py). MLX's quick CUDA kernels are for y = x W^T alone, not for the gradient g W
of its input. On a CPU packed products are slow: 304 tokens, 256 to 1,024 wide, at 4 bits take 71 ms, unpacked 1.5 ms.

`prepare()` comes before the first `import mlx` of a process that computes, since a BLAS can only be put in place then;
that is why nothing here imports MLX above a function.

Measured on Linux CPUs (bench/step_time.py, openblas.py and precision.py): float32 is the quickest dtype there, and compiled
functions are no quicker than plain ones but want a working g++ and 0.6 s for each kernel the first time. On an H200
whole steps were measured as the row "cuda" says (bench/full_size.py). The row "metal" follows MLX's documentation and
source.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.device import malloc, openblas
from core.device.hardware import Device, machine_bytes
from core.errors import Problem

if TYPE_CHECKING:
    import mlx.core as mx

GIB = 2**30
AHEAD_SHARE = 1 / 32  # of what is held already


@dataclass(frozen=True, slots=True)
class Policy:
    """How one kind of device is used."""

    dtype: Literal["bfloat16", "float32"]
    compiles: bool
    packed_products: bool  # with quantized weights: by MLX's kernels, or unpacked for each product
    runs_ahead: bool  # the next computation is prepared while the device is at this one
    batches: bool  # a batch is quicker than its examples one after the other, even where memory is to be spared
    own_memory: bool  # what the processor reads is moved out of the device's memory first
    cache_share: float  # of the device's memory, kept for the next step rather than given back


POLICIES: dict[Device, Policy] = {
    "metal": Policy(
        "bfloat16", compiles=True, packed_products=True, runs_ahead=True, batches=True, own_memory=False,
        cache_share=1 / 8,
    ),
    "cuda": Policy(
        "bfloat16", compiles=True, packed_products=False, runs_ahead=True, batches=True, own_memory=True,
        cache_share=1 / 4,
    ),
    "cpu": Policy(
        "float32", compiles=False, packed_products=False, runs_ahead=False, batches=False, own_memory=False,
        cache_share=0,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Backend:
    """What `prepare` decided for this process."""

    device: Device
    policy: Policy
    blas: openblas.Blas


_prepared: Backend | None = None


def prepare() -> Backend:
    """Make this process ready to compute, once; the second call answers what the first one decided.

    LIKENESS_DEVICE=cpu keeps a machine with a GPU on its CPU. LIKENESS_CACHE names the folder for the copy of OpenBLAS.

    Raises Problem when MLX is not installed whole.
    """
    global _prepared
    if _prepared is None:
        os.environ.setdefault("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "1")  # macOS: long kernels beside a busy screen
        taken = openblas.take(cache_folder())
        _prepared = _settle(taken, request=os.environ.get("LIKENESS_DEVICE", ""))
    return _prepared


def cache_folder() -> Path:
    """Where files go that can be made again at any time and belong to no project."""
    named = os.environ.get("LIKENESS_CACHE")
    if named:
        return Path(named).expanduser()
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "likeness"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "likeness"


def compute_dtype() -> mx.Dtype:
    """The dtype of weights and latents on this device; sigma and the loss are float32 everywhere."""
    import mlx.core as mx

    return getattr(mx, prepare().policy.dtype)


def compile_step(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`mx.compile(function, **options)` where that pays, else the function itself.

    Keep such functions pure, with weights as arguments or named in `inputs` and `outputs`.
    """
    if not prepare().policy.compiles:
        return function
    import mlx.core as mx

    return mx.compile(function, **options)


def device_of(*, metal: bool, cuda: bool, request: str = "") -> Device:
    """The device to use where these are there; `request` is "cpu" or empty.

    Raises Problem for another request.
    """
    if request not in ("", "cpu"):
        raise Problem(f"LIKENESS_DEVICE is {request!r}; it can be cpu, or left away for the quickest device.")
    if request == "cpu":
        return "cpu"
    return "metal" if metal else "cuda" if cuda else "cpu"


def cache_bytes(device: Device, memory_bytes: int) -> int:
    """How much freed memory MLX may keep for the next step, in bytes."""
    return max(32 * 2**20, int(memory_bytes * POLICIES[device].cache_share))


def peak_memory() -> int:
    """The most bytes that arrays held at once since `reset_peak_memory`, counting those that were there before."""
    import mlx.core as mx

    return max(mx.get_peak_memory(), mx.get_active_memory())  # a reset sets the peak to 0, not to what is held


def reset_peak_memory() -> None:
    import mlx.core as mx

    mx.reset_peak_memory()


def submit(*trees: Any) -> None:
    """Have the device work these out, and go on meanwhile where it runs ahead; elsewhere this is `mx.eval`."""
    import mlx.core as mx

    (mx.async_eval if prepare().policy.runs_ahead else mx.eval)(*trees)


def evaluate(*trees: Any, wait: bool = True) -> None:
    """`mx.eval`, or without `wait` `tell`, with little memory taken for work that the device has not come to yet.

    A GPU is told what to do long before it does it, and memory is taken when it is told: left to itself, MLX holds all
    that a graph ever needs at once. Above a limit it waits for what was told before; the limit is put a little above
    what is held now.
    """
    import mlx.core as mx

    if not prepare().policy.runs_ahead:
        mx.eval(*trees)
        return
    held = mx.get_active_memory()
    before = mx.set_memory_limit(int(held * (1 + AHEAD_SHARE)))
    try:
        (mx.eval if wait else mx.async_eval)(*trees)
    finally:
        mx.set_memory_limit(before)


def expect_the_same_again() -> None:
    """What is freed from now on is asked for again soon: a step comes after a step. A CPU's heap then keeps it.

    Not for loading, which frees what it casts and packs from, once.
    """
    if prepare().device == "cpu":
        malloc.keep_what_is_freed()  # MLX has no cache of its own there


def describe() -> dict[str, Any]:
    """What computes here, for logs, recipes and the settings page; numbers in bytes, `note` a sentence or empty."""
    backend = prepare()
    import mlx.core as mx

    return {
        "device": backend.device,
        "device_name": str(mx.device_info().get("device_name", platform.machine())),
        "dtype": backend.policy.dtype,
        "compiled": backend.policy.compiles,
        "blas": backend.blas.name,
        "threads": backend.blas.threads,
        "mlx": mx.__version__,
        "memory_bytes": _memory_bytes(),
        "note": "" if backend.blas.quick else backend.blas.reason,
    }


def _settle(taken: openblas.Blas, request: str) -> Backend:
    """Import MLX, see what it runs on, and set its policy."""
    try:
        import mlx.core as mx
    except ImportError as error:
        raise Problem(
            f"MLX is not installed whole ({error}). On Linux install one of its two builds: "
            'pip install "likeness[cpu]" or, with an NVIDIA card, pip install "likeness[cuda13]".'
        ) from error
    device = device_of(metal=mx.metal.is_available(), cuda=mx.cuda.is_available(), request=request)
    policy = POLICIES[device]
    if device == "cpu":
        mx.set_default_device(mx.cpu)
    if not policy.compiles:
        mx.disable_compile()  # also for MLX's own gelu and silu: nothing here asks for a compiler
    mx.set_cache_limit(cache_bytes(device, _memory_bytes()))
    if device == "metal":
        mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))
    return Backend(device, policy, taken)


def _memory_bytes() -> int:
    """Memory of the device: of the card on CUDA, else of the machine, which Apple's GPUs share."""
    import mlx.core as mx

    return int(mx.device_info().get("memory_size") or mx.device_info().get("total_memory") or machine_bytes())

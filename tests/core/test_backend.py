"""The quick BLAS, and the one place that knows about devices. Both run in fresh processes: they come before MLX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from core.device import backend, openblas
from core.errors import Problem

ROOT = Path(__file__).resolve().parents[2]
linux_cpu = pytest.mark.skipif(
    sys.platform != "linux" or bool(openblas.cuda_wheel()), reason="the quick BLAS is for Linux CPUs"
)


def in_a_fresh_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("LIKENESS_")}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**known, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("metal", "cuda", "requested", "device"),
    [
        (True, False, "", "metal"),
        (False, True, "", "cuda"),
        (False, False, "", "cpu"),
        (True, False, "cpu", "cpu"),
        (False, True, "cpu", "cpu"),
    ],
)
def test_the_quickest_device_is_taken_unless_the_user_wants_the_cpu(
    metal: bool, cuda: bool, requested: str, device: str
) -> None:
    assert backend.device_of(metal=metal, cuda=cuda, requested=requested) == device


def test_a_device_that_nobody_knows_is_a_sentence() -> None:
    with pytest.raises(Problem, match="LIKENESS_DEVICE is 'tpu'; it can be cpu"):
        backend.device_of(metal=False, cuda=True, requested="tpu")


def test_gpus_compute_in_bfloat16_and_compile_and_cpus_do_neither() -> None:
    assert {device: (policy.dtype, policy.compiles) for device, policy in backend.POLICIES.items()} == {
        "metal": ("bfloat16", True),
        "cuda": ("bfloat16", True),
        "cpu": ("float32", False),
    }


def test_quantized_weights_are_multiplied_packed_where_kernels_for_both_products_are_there_and_quick() -> None:
    assert [device for device, policy in backend.POLICIES.items() if policy.packed_products] == ["metal"]


def test_the_cache_follows_the_memory_and_has_a_floor() -> None:
    assert backend.cache_bytes("metal", 16 * backend.GIB) == 2 * backend.GIB
    assert backend.cache_bytes("cuda", 80 * backend.GIB) == 20 * backend.GIB
    assert backend.cache_bytes("cpu", 16 * backend.GIB) == 32 * 2**20


def test_a_cpus_process_keeps_the_pages_that_it_frees_where_the_same_is_expected_again() -> None:
    code = """
import resource
from core.device import backend
backend.keep_freed_memory()
import mlx.core as mx

def faults(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    mx.eval([mx.zeros((megabytes, 2**18)) + number for number in range(2)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(100), faults(100), faults(100))
"""
    first, *later = map(int, in_a_fresh_process(code, LIKENESS_DEVICE="cpu").stdout.split())
    assert first > 20_000  # 200 MB and more, in pages of 4 kB
    assert max(later) < 2_000


def test_preparing_twice_is_preparing_once() -> None:
    assert backend.prepare() is backend.prepare()


def test_the_description_can_be_written_as_json_and_names_all_that_a_recipe_needs() -> None:
    described = json.loads(json.dumps(backend.describe()))
    assert {"device", "device_name", "dtype", "compiled", "blas", "mlx", "memory_bytes", "note"} <= described.keys()
    assert described["mlx"] == mx.__version__
    assert getattr(mx, described["dtype"]) == backend.compute_dtype()


def test_a_compiled_step_equals_the_plain_one() -> None:
    def step(x: mx.array) -> mx.array:
        return x * 2 + 1

    x = mx.arange(4, dtype=mx.float32)
    assert mx.array_equal(backend.compile_step(step)(x), step(x))


def test_peak_memory_counts_what_was_held_before_the_reset() -> None:
    held = mx.zeros((256, 1024), dtype=mx.float32)
    mx.eval(held)
    backend.reset_peak_memory()
    assert backend.peak_memory() >= held.nbytes


def test_asking_about_the_backend_does_not_import_mlx() -> None:
    code = "import sys, core.device.backend; sys.exit('mlx' in sys.modules or 'mlx.core' in sys.modules)"
    assert in_a_fresh_process(code).returncode == 0


@linux_cpu
def test_openblas_multiplies_in_the_place_of_the_wheels_blas(tmp_path: Path) -> None:
    code = (
        "from core.device import backend; prepared = backend.prepare(); import mlx.core as mx, ctypes\n"
        "mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))\n"
        "from pathlib import Path; where = Path('/proc/self/maps').read_text()\n"
        "symbol = ctypes.CDLL(None).cblas_sgemm; at = ctypes.cast(symbol, ctypes.c_void_p).value\n"
        "for line in where.splitlines():\n"
        "    low, high = (int(part, 16) for part in line.split()[0].split('-'))\n"
        "    if low <= at < high: print(prepared.blas.name, '|', line.split()[-1])\n"
    )
    done = in_a_fresh_process(code, LIKENESS_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    name, _, library = done.stdout.strip().partition(" | ")
    assert name.startswith("OpenBLAS ")
    assert Path(library).parent == tmp_path
    assert [path.suffix for path in tmp_path.iterdir()] == [".so"], "no scratch is left behind"


@linux_cpu
def test_two_processes_may_make_the_copy_at_once(tmp_path: Path) -> None:
    install = f"from core.device.openblas import install; print(install(Path({str(tmp_path)!r})).quick)"
    command = [sys.executable, "-P", "-c", f"from pathlib import Path; {install}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["True", "True"]
    assert len(list(tmp_path.iterdir())) == 1


@linux_cpu
def test_a_damaged_copy_is_said_and_made_again_next_time(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from core.device import openblas; print(openblas.install(Path({str(tmp_path)!r})))"
    )
    assert "quick=True" in in_a_fresh_process(code).stdout
    copy = next(tmp_path.iterdir())
    copy.write_bytes(b"not a library")
    assert "could not be loaded" in in_a_fresh_process(code).stdout
    assert "quick=True" in in_a_fresh_process(code).stdout


def test_too_late_is_said_in_words(tmp_path: Path) -> None:
    taken = openblas.install(tmp_path, system="Linux", machine="x86_64")
    if not openblas.cuda_wheel():
        assert not taken.quick
        assert "MLX was imported before core.device.backend.prepare()" in taken.reason
        assert not list(tmp_path.iterdir())


@linux_cpu
@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("blas.PACKAGE = 'no-such-package'", "The package no-such-package is not installed"),
        ("blas.LIBRARY = 'no-such-file.so'", "holds no no-such-file.so"),
        ("blas.sys.prefix = '/nowhere'; blas.shutil.which = lambda name: None", "The program patchelf is missing"),
    ],
)
def test_what_is_missing_is_said_in_words_and_mlx_still_computes(missing: str, sentence: str, tmp_path: Path) -> None:
    code = (
        f"from core.device import openblas as blas; {missing}\n"
        "from core.device import backend; print(backend.prepare().blas.reason); import mlx.core as mx\n"
        "assert (mx.ones((2, 2)) @ mx.ones((2, 2))).sum().item() == 8"
    )
    done = in_a_fresh_process(code, LIKENESS_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sentence in done.stdout
    assert "times slower" in done.stdout


@linux_cpu
def test_a_cache_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code = "from core.device import backend; print(backend.describe()['note'])"
    done = in_a_fresh_process(code, LIKENESS_CACHE=str(tmp_path / "file" / "cache"))
    assert "LIKENESS_CACHE names another" in done.stdout, done.stderr


def test_elsewhere_nothing_is_put_in_place_of_mlxs_own(tmp_path: Path) -> None:
    assert openblas.install(tmp_path, system="Darwin", machine="arm64") == openblas.Blas("Accelerate", quick=True)
    if not openblas.cuda_wheel():
        assert "no OpenBLAS package for riscv64" in openblas.install(tmp_path, system="Linux", machine="riscv64").reason
        assert "this is Windows" in openblas.install(tmp_path, system="Windows", machine="AMD64").reason


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("", 8)])
def test_a_containers_quota_limits_the_threads(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert openblas.quota_cores(tmp_path / "cpu.max", 8) == cores
    assert openblas.quota_cores(tmp_path / "missing", 8) == 8

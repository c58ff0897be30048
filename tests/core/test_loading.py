"""Loading takes hardly more memory than the model that is loaded: measured in a process of its own.

The checkpoint has FLUX.1's shape, 1.4e8 parameters in bfloat16 and in shards. `arrays` is the most that MLX's arrays
held at once. `process` is the most that became resident, which is more by what Python takes for modules and graphs;
pages of the files that the system caches belong to no process (`bench/loading.py` says more).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.loading import in_a_process, write_flux

pytestmark = pytest.mark.slow

FEW_MB = 32 * 2**20  # Python's own, whatever the size of the model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("large") / "model")


def file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "transformer").glob("*.safetensors"))


@pytest.mark.parametrize(("precision", "bits"), [("8-bit", 8), ("4-bit", 4)])
def test_a_base_quantized_while_loading_is_never_whole(folder: Path, precision: str, bits: int) -> None:
    assert file_bytes(folder) > 250e6
    found = in_a_process(folder, precision)
    parameters = file_bytes(folder) / 2
    assert found["model"] < parameters * (bits + 2) / 8, "it was not quantized"
    assert found["model"] <= found["arrays"] <= 1.15 * found["model"]
    assert found["process"] <= 1.15 * found["model"] + FEW_MB


def test_a_whole_base_takes_its_own_size_and_a_tensor(folder: Path) -> None:
    found = in_a_process(folder, "full")
    assert found["model"] > 0.99 * file_bytes(folder)
    assert found["model"] <= found["arrays"] <= 1.02 * found["model"]
    assert found["process"] <= 1.02 * found["model"] + FEW_MB

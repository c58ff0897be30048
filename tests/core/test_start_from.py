"""A run that begins with an adapter of somebody else: its layers, its ranks, exact resume, and no other start."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from core import files
from core.adapters import diffusers, kohya, lora
from core.adapters import file as adapter_file
from core.errors import AdapterProblem, ConfigProblem
from core.models.base import Family
from core.models.load import load_family
from core.training import checkpoint
from core.training.events import Finished, Note, Request, Sampled, Stepped
from tests.core.subjects import of_kind, training
from tests.core.test_adapter_forms import check_same, random_factors

pytestmark = pytest.mark.slow


def kohya_file(family: Family, path: Path) -> Path:
    """An adapter that another program trained: attention of two blocks, ranks of its own, alpha beside the factors."""
    layers = [layer for layer in family.presets["attention"] if ".1." in layer]
    sizes = {layer: lora.find(family.transformer, layer).weight.shape for layer in layers}
    tensors = kohya.tensors_of(random_factors(sizes, (3, 5, 2)), family.name)
    mx.save_safetensors(str(path), {name: 0.05 * value if "up" in name else value for name, value in tensors.items()})
    return path


def test_a_run_begins_with_an_adapter_of_another_program(family: Family, photos: Path, tmp_path: Path) -> None:
    file = kohya_file(family, tmp_path / "theirs.safetensors")
    given = adapter_file.read(file, family.name).factors
    knobs = {"steps": 1, "learning_rate": 1e-6, "sample_every": 1}
    progress = list(training(family, photos, tmp_path / "run", start_from=file, **knobs))
    notes = [note.text for note in of_kind(iter(progress), Note)]
    assert any(f"Begins with theirs.safetensors: {len(given)} layers, rank 5" in text for text in notes)
    found = adapter_file.read(progress[-1].adapter, family.name).factors
    check_same(found, given, error=0.01)  # one tiny step, and rounding to the file's 16 bits
    assert all(found[path][0].shape == a_RI.shape for path, (a_RI, _) in given.items())
    state, _ = checkpoint.newest(tmp_path / "run")
    assert state is not None
    assert state.start_hash == files.sha256_of(file)
    first = of_kind(iter(progress), Sampled)[0]
    assert (first.step, first.recipe["adapters"]) == (0, [{"sha256": state.start_hash, "strength": 1.0}])


def test_a_run_that_began_with_an_adapter_resumes_exactly_and_without_its_file(
    model_folder: Path, photos: Path, tmp_path: Path
) -> None:
    file = kohya_file(load_family(model_folder), tmp_path / "theirs.safetensors")
    list(training(load_family(model_folder), photos, tmp_path / "whole", start_from=file))
    run = training(load_family(model_folder), photos, tmp_path / "parts", start_from=file)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == 2 else None)
    file.unlink()
    list(training(load_family(model_folder), photos, tmp_path / "parts", start_from=file, resume=True))
    whole, parts = (checkpoint.newest(tmp_path / name)[0] for name in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    assert all(mx.array_equal(value, parts.parameters[name]) for name, value in whole.parameters.items())
    assert whole.losses == parts.losses


def test_a_run_does_not_go_on_with_another_start(family: Family, photos: Path, tmp_path: Path) -> None:
    file = kohya_file(family, tmp_path / "theirs.safetensors")
    list(training(family, photos, tmp_path / "run", start_from=file))
    mx.save_safetensors(str(file), {name: 2 * value for name, value in mx.load(str(file)).items()})
    for start_from in (file, None):
        with pytest.raises(ConfigProblem, match="another adapter file than the run began with"):
            list(training(family, photos, tmp_path / "run", start_from=start_from, steps=9, resume=True))


def test_an_adapter_for_another_model_cannot_be_begun_with(family: Family, photos: Path, tmp_path: Path) -> None:
    factors = {"transformer_blocks.9.attn.to_q": (mx.ones((2, 32)), mx.ones((32, 2)))}
    diffusers.write(tmp_path / "a.safetensors", factors, {})
    with pytest.raises(AdapterProblem, match=r"blocks\.9\.attn\.to_q: is not in this model"):
        list(training(family, photos, tmp_path / "run", start_from=tmp_path / "a.safetensors"))

"""A run that keeps an average: it is what is saved and drawn, and training goes on as if nobody averaged."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from core.adapters import file as adapter_file
from core.adapters import lora
from core.models.base import Family
from core.training import checkpoint, ema, preview, validation
from core.training.events import Note, Saved, Scored, Stepped
from core.training.optimizers import OPTIMIZERS
from core.training.update import init
from tests.core.subjects import of_kind, rewrite_state, training

pytestmark = pytest.mark.slow


def test_the_average_is_saved_and_the_weights_are_trained_on(family: Family, photos: Path, tmp_path: Path) -> None:
    plain = of_kind(training(family, photos, tmp_path / "plain"), Stepped)
    averaged = of_kind(training(family, photos, tmp_path / "averaged", ema_decay=0.9), Stepped)
    assert [each.loss for each in plain] == [each.loss for each in averaged]
    folders = [tmp_path / name / "checkpoints" / "4" for name in ("plain", "averaged")]
    without, state = map(checkpoint.load, folders)
    assert all(mx.array_equal(value, without.parameters[name]) for name, value in state.parameters.items())
    mean = state.optimizer_state.tensors[ema.GROUP]
    saved = adapter_file.read(folders[1] / "adapter.safetensors", "flux1").factors
    for path, (a_RI, b_OR) in saved.items():
        assert mx.allclose(a_RI, mean[f"{path}.lora_A"], rtol=1e-2)
        assert mx.allclose(b_OR, mean[f"{path}.lora_B"], rtol=1e-2)
        assert not mx.allclose(b_OR, state.parameters[f"{path}.lora_B"], rtol=1e-2)


def test_sample_pictures_are_drawn_with_the_average(family: Family, photos: Path, tmp_path: Path, monkeypatch) -> None:
    seen: list[dict[str, mx.array]] = []
    exact = preview.Previews.pictures

    def pictures(self: preview.Previews, step: int):
        layers = family.transformer.named_modules()
        adapters = {path: each.adapters["subject"] for path, each in layers if isinstance(each, lora.LoRALinear)}
        seen.append({path: each.lora_B for path, each in adapters.items()})
        yield from exact(self, step)

    monkeypatch.setattr(preview.Previews, "pictures", pictures)
    run = training(family, photos, tmp_path / "run", ema_decay=0.9, sample_every=4)
    for progress in run:
        if isinstance(progress, Saved) and progress.step == 4:
            state = checkpoint.load(progress.folder)
    mean = state.optimizer_state.tensors[ema.GROUP]
    assert all(mx.array_equal(value, mean[f"{path}.lora_B"]) for path, value in seen[-1].items())


def test_held_out_photos_are_scored_with_the_average(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, mx.array]] = []
    exact = validation.Scoring.score

    def score(self: validation.Scoring, state: checkpoint.State) -> Scored:
        seen.append(self.adapter.parameters())
        return exact(self, state)

    monkeypatch.setattr(validation.Scoring, "score", score)
    list(training(family, photos, tmp_path / "run", ema_decay=0.9))
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "4")
    mean = state.optimizer_state.tensors[ema.GROUP]
    assert all(mx.array_equal(value, mean[name]) for name, value in seen[-1].items())
    assert not all(mx.array_equal(value, state.parameters[name]) for name, value in seen[-1].items())


def test_the_adapter_has_its_weights_back_after_the_average_was_applied(family: Family) -> None:
    adapter = lora.attach(family.transformer, family.presets["attention"], 2, 2.0, mx.random.key(0))
    w = adapter.parameters()
    state = init(OPTIMIZERS["lion"], w, with_ema=True)
    state.tensors[ema.GROUP] = {name: value + 1 for name, value in w.items()}
    with ema.applied(adapter, checkpoint.State(1, w, state, {}, "", {}, 1)):
        assert all(mx.array_equal(value, w[name] + 1) for name, value in adapter.parameters().items())
    assert all(mx.array_equal(value, w[name]) for name, value in adapter.parameters().items())


def test_a_checkpoint_of_before_there_were_averages_goes_on(family: Family, photos: Path, tmp_path: Path) -> None:
    list(training(family, photos, tmp_path / "run"))
    folder = tmp_path / "run" / "checkpoints" / "4"
    held = set(mx.load(str(folder / "optimizer.safetensors")))
    assert {name.partition(".")[0] for name in held} == {"w", "m", "v", "n"}  # as it always was
    rewrite_state(folder, lambda table: [table["config"].pop(knob) for knob in ("optimizer", "cycles", "ema_decay")])
    said = of_kind(training(family, photos, tmp_path / "run", resume=True, steps=6), Saved)
    assert [each.step for each in said] == [6]


def test_a_run_with_an_unsuited_learning_rate_says_so(family: Family, photos: Path, tmp_path: Path) -> None:
    notes = of_kind(training(family, photos, tmp_path / "run", steps=1, optimizer="prodigy", learning_rate=0.01), Note)
    texts = [note.text for note in notes if note.level == "warning"]
    assert len(texts) == 1
    assert texts[0].startswith("A learning rate of 0.01 does not suit Prodigy: it finds the rate itself")

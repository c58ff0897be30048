"""Adapters of strangers on the command line: drawn with, at the strength of the settings beside them, or refused."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from tests.core.test_adapter_forms import save
from tests.core.test_adapter_kinds import TO_Q, lokr, written
from tests.core.test_cli import likeness


@pytest.fixture
def words(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    return ["sample", "--model", model_folder, "--prompt", "a can", "--steps", 2, "--out", tmp_path / "p.png"]


def test_a_lokr_is_drawn_with(words: list[object], tmp_path: Path) -> None:
    file = written(tmp_path / "kron.safetensors", TO_Q, lokr((4, 8), (2, 16), rank=3)[0])
    pictures = []
    for more in ([], ["--adapter", file], ["--adapter", file, "--strength", 0]):
        result = likeness(*words, *more)
        assert result.exit_code == 0, result.stderr
        assert ("kron.safetensors names no alpha, so alpha = rank is assumed" in result.stderr) == bool(more)
        pictures.append((tmp_path / "p.png").read_bytes())
    pixels = [picture[picture.index(b"IDAT") :] for picture in pictures]
    assert pixels[0] == pixels[2] != pixels[1]


def test_the_settings_beside_a_file_count(words: list[object], tmp_path: Path) -> None:
    pair = {f"{TO_Q}.lora_A.weight": mx.ones((2, 32)), f"{TO_Q}.lora_B.weight": mx.ones((32, 2))}
    file = save(tmp_path / "any name.safetensors", pair)
    pixels = []
    for config in (None, '{"lora_alpha": 8}'):
        if config is not None:
            (tmp_path / "adapter_config.json").write_text(config, encoding="utf-8")
        result = likeness(*words, "--adapter", file)
        assert result.exit_code == 0, result.stderr
        assert ("alpha = rank is assumed" in result.stderr) == (config is None)
        picture = (tmp_path / "p.png").read_bytes()
        pixels.append(picture[picture.index(b"IDAT") :])
    assert pixels[0] != pixels[1]


def test_a_run_from_a_lokr_is_refused_before_anything_is_written(
    model_folder: Path, photos: Path, tmp_path: Path
) -> None:
    file = written(tmp_path / "kron.safetensors", TO_Q, lokr((4, 8), (2, 16))[0])
    more = ["--class-word", "can", "--model", model_folder, "--from", file]
    result = likeness("train", photos, "--out", tmp_path / "out", *more)
    assert result.exit_code == 2
    assert "kron.safetensors is a LoKr, which can be drawn with, but neither trained further nor" in result.stderr
    assert not list((tmp_path / "out").glob("*.json"))

"""The three lines that a sent adapter comes with do in diffusers what they say, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image

from core.adapters import diffusers
from core.adapters import file as adapter_file
from core.adapters.programs import PROGRAMS, AdapterUse
from core.hub.catalog import family_of, pipeline_of
from core.models.load import load_family
from tests.core.test_adapter_forms import of_model
from tests.families import FOLDERS

PROMPT = 'a photo of a sks can\'s "lid"'


@pytest.mark.parametrize("family", ["flux1", "flux2", "z_image", "chroma"])
def test_the_lines_draw_with_the_adapter_at_its_strength(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FOLDERS[family](tmp_path / "model")
    factors = of_model(load_family(folder))
    diffusers.write(tmp_path / "my can's.safetensors", factors, {"modelspec.title": "x"})
    use = AdapterUse(
        family=family_of(folder),
        model="",
        model_title="Tiny",
        own_folder="model",
        source=str(folder),
        pipeline=pipeline_of(folder),
        trigger="sks can",
        prompt=PROMPT,
        strength=0.5,
        steps=1,
        guidance=2.0,
        side_px=64,
        file=str(tmp_path / "my can's.safetensors"),
    )
    monkeypatch.chdir(tmp_path)
    lines = PROGRAMS["diffusers"].lines(use)
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)  # they are what is tested
    layers = [module for module in names["pipeline"].transformer.modules() if isinstance(module, BaseTunerLayer)]
    assert len(layers) == len(adapter_file.read(tmp_path / "my can's.safetensors", family).factors)
    assert {layer.scaling["likeness"] for layer in layers} == {0.5}
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (64, 64)
        assert np.asarray(picture).std() > 0

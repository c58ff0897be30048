"""LoKr, LoHa and DoRA as PEFT saves them: each layer adds here what PEFT's own adds there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

from core.adapters import dense, lora
from core.adapters import file as adapter_file
from core.models.load import load_family
from tests.tiny import make_model_folder

TARGETS = r".*transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_k_proj)|ff\.net\.2|proj_mlp)"
KINDS: dict[str, Any] = {
    "LoKr": LoKrConfig(r=2, alpha=3, target_modules=TARGETS, init_weights=False),
    "LoKr of two": LoKrConfig(r=2, alpha=3, decompose_both=True, target_modules=TARGETS, init_weights=False),
    "LoKr whole": LoKrConfig(r=40, alpha=20, target_modules=TARGETS, init_weights=False),
    "LoHa": LoHaConfig(r=3, alpha=6, alpha_pattern={"attn.to_k": 2}, target_modules=TARGETS, init_weights=False),
    "DoRA": LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=TARGETS, init_lora_weights=False),
    "rsDoRA": LoraConfig(
        r=4, lora_alpha=6, use_dora=True, use_rslora=True, target_modules=TARGETS, init_lora_weights=False
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_peft_makes_pefts_change(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    folder = make_model_folder(tmp_path / "model")
    model = get_peft_model(FluxTransformer2DModel.from_pretrained(folder / "transformer"), KINDS[kind])
    with torch.no_grad():
        for name, value in model.named_parameters():
            if re.search("magnitude", name):
                value.mul_(0.5 + torch.rand(value.shape))
    model.save_pretrained(tmp_path / "saved")
    layers = {
        name: layer for name, layer in model.get_base_model().named_modules() if isinstance(layer, BaseTunerLayer)
    }

    family = load_family(folder, dtype=mx.float32)
    held = adapter_file.read_to_draw(tmp_path / "saved" / "adapter_model.safetensors", "flux1")
    adapter = dense.attach(family.transformer, held.factors, held.parts, name="theirs")
    assert adapter.parts.keys() == layers.keys()
    for path, layer in layers.items():
        x = torch.randn(5, layer.base_layer.in_features)
        with torch.no_grad():
            expected = (layer(x) - layer.base_layer(x)).numpy()
        ours = lora.find(family.transformer, path)
        found = np.array(ours(mx.array(x.numpy())) - ours.base(mx.array(x.numpy())))
        assert np.linalg.norm(expected) > 0
        assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected), path

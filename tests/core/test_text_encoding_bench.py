"""The bench of text encoders writes what the models' loaders read, and every caption at its full length."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.real_models import MODELS, write_configs
from bench.text_encoding import SMALL, measure, write_encoders

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model", MODELS)
def test_captions_are_read_at_full_length_from_random_encoders(model: str, tmp_path: Path) -> None:
    write_encoders(write_configs(tmp_path, model, {}), model, SMALL)
    found = measure(tmp_path, captions=2)
    taps = {"klein-4b": 3, "klein-9b": 3, "flux3-klein-base": 8}.get(model, 1)
    batch, tokens, width = found["shape"]
    assert (batch, width) == (1, taps * SMALL["hidden_size"])
    if model == "flux3-klein-base":  # which takes more tokens than the caption has
        assert tokens > 512
        assert tokens % 80 == 0
    else:
        assert tokens == 512
    assert found["peak"] > 0

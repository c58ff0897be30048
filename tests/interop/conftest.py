"""The reference implementations (torch, diffusers, transformers, peft) beside ours, on small random weights.

Reference modules are saved by their own `save_pretrained` and read by our loader: names, layouts and numbers at once.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if importlib.util.find_spec("core.device.backend"):
    from core.device import backend

    backend.prepare()  # before the first import of mlx

REFERENCES = ("torch", "diffusers", "transformers", "peft")
MFLUX_PYTHON = Path(__file__).resolve().parents[2] / ".venv-mflux" / "bin" / "python"

DEPRECATED_WITHIN_DIFFUSERS = "ignore:`FluxPosEmbed` is deprecated:FutureWarning"  # by its own Chroma


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", DEPRECATED_WITHIN_DIFFUSERS)


# `make interop` installs them all.
if any(importlib.util.find_spec(name) is None for name in REFERENCES):
    collect_ignore_glob = ["test_*.py"]
elif not MFLUX_PYTHON.exists():
    collect_ignore = ["test_mflux.py", "test_against_mflux.py"]

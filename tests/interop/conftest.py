"""The reference implementations (torch, diffusers, transformers, peft) beside ours, on small random weights.

Reference modules are saved by their own `save_pretrained` and read by our loader: names, layouts and numbers at once.
"""

from __future__ import annotations

import importlib.util
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if importlib.util.find_spec("core.backend"):
    from core import backend

    backend.prepare()  # before the first import of mlx

REFERENCES = ("torch", "diffusers", "transformers", "peft")
if any(importlib.util.find_spec(name) is None for name in REFERENCES):
    collect_ignore_glob = ["test_*.py"]  # `make interop` installs them

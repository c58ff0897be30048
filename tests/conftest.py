"""Before anything imports MLX: put the quick BLAS in place, as every process that computes does.

And before anything looks at the hub's cache: what the user of this computer has downloaded is no part of a test.
"""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tests are small; two threads only get in each other's way
for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "LIKENESS_MODELS"):
    os.environ.pop(name, None)
NOBODYS_CACHE = tempfile.TemporaryDirectory(prefix="likeness-hub-")
os.environ["HF_HOME"] = NOBODYS_CACHE.name

from core.device import backend

backend.prepare()

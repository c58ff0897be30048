"""Before anything imports MLX: put the quick BLAS in place, as every process that computes does."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tests are small; two threads only get in each other's way

from core import backend

backend.prepare()

"""Prepares the process before MLX is imported, hides the user's model cache, and sorts the tests into tiers."""

from __future__ import annotations

import os
import tempfile

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tests are small, and two may run at a time
os.environ.setdefault("LIKENESS_SELFTEST", "off")  # tests/core/test_self_test.py runs it
for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "LIKENESS_MODELS"):
    os.environ.pop(name, None)
EMPTY_CACHE = tempfile.TemporaryDirectory(prefix="likeness-hub-")
os.environ["HF_HOME"] = EMPTY_CACHE.name

from core.device import backend

backend.prepare()

BROWSER_FIXTURES = {"page", "context", "browser"}  # pytest-playwright's
PROCESS_FIXTURES = {"start_studio", "wheel"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make quick` leaves out, and keep on one worker of `make test` what shares a studio or a wheel."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & BROWSER_FIXTURES:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))
            item.add_marker(pytest.mark.flaky(reruns=1))  # a busy machine may miss a wait; twice is a fault
        if fixtures & PROCESS_FIXTURES:
            item.add_marker(pytest.mark.slow)
        if "wheel" in fixtures:
            item.add_marker(pytest.mark.xdist_group("wheel"))

"""Prepares the process before MLX is imported, hides the user's model cache, and sorts the tests into tiers."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tests are small, and two may run at a time
os.environ.setdefault("LIKENESS_SELFTEST", "off")  # tests/core/test_self_test.py runs it
for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "LIKENESS_MODELS"):
    os.environ.pop(name, None)
EMPTY_CACHE = tempfile.TemporaryDirectory(prefix="likeness-hub-")
os.environ["HF_HOME"] = EMPTY_CACHE.name

from core.device import backend

backend.prepare()

# Many tests start our own processes, and each would compile every module of ours anew: half of such a test's time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Looking for garbage among all that was imported took an eighth of the time. What measures memory collects it first.
gc.set_threshold(10_000)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


BROWSER_FIXTURES = {"page", "context", "browser"}  # pytest-playwright's
PROCESS_FIXTURES = {"start_studio", "shared_studio", "wheel"}


class FilesTogether(LoadScopeScheduling):
    """Shares the tests out file by file, since a file's tests share fixtures; those with a browser are one share.

    It begins first: so a browser and a studio run on one worker alone, and never two at a time. (xdist's own groups,
    --dist=loadgroup, group nothing under pytest 9.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::")[0]
        return "browser" if path.startswith("tests/e2e/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    config.option.loadscopereorder = False  # the order is that of the collection
    return FilesTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make quick` leaves out, and begin with it: what takes long must not come last on one worker alone.

    A test with a browser gets a second try: on a busy machine a page may miss a wait. Twice is a fault.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & BROWSER_FIXTURES:
            item.add_marker(pytest.mark.browser)
        if fixtures & PROCESS_FIXTURES:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1))
    files_with = {tier: {item.path for item in items if item.get_closest_marker(tier)} for tier in ("browser", "slow")}
    items.sort(key=lambda item: (item.path not in files_with["browser"], item.path not in files_with["slow"]))

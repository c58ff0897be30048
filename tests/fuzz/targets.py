"""Everything that is fuzzed, by name. A target imports what it needs when it is asked for, and only then."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

MODULES = {
    "photos": "photo_files",
    "captioner-replies": "captioner_replies",
    "caption-files": "caption_files",
    "adapter-headers": "adapter_files",
    "config-files": "config_files",
}
SECONDS_AT_MOST = 5.0


class Target(NamedTuple):
    """Inputs, and what must hold for each."""

    data: st.SearchStrategy[Any]
    check: Callable[[Any], None]


def target(name: str) -> Target:
    module = importlib.import_module(f"tests.fuzz.{MODULES[name]}")
    return Target(module.DATA, module.check)


def run(target: Target, executions: int, seed_of: int | None = None) -> None:
    """Check `executions` generated inputs; always the same ones without a seed. Raises what the check raises."""
    checked = given(target.data)(target.check)
    if seed_of is not None:
        checked = seed(seed_of)(checked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings(
            max_examples=executions,
            deadline=timedelta(seconds=SECONDS_AT_MOST) if seed_of is None else None,
            derandomize=seed_of is None,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )(checked)()

"""Generated inputs: no exception that is not a sentence, and no execution over 5 s. `run` takes any number of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz import adapter_files, caption_files, captioner_replies, config_files, photo_files

pytestmark = pytest.mark.slow

TARGETS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "photos": (photo_files.DATA, photo_files.check),
    "captioner-replies": (captioner_replies.DATA, captioner_replies.check),
    "caption-files": (caption_files.DATA, caption_files.check),
    "adapter-headers": (adapter_files.DATA, adapter_files.check),
    "config-files": (config_files.DATA, config_files.check),
}
EXECUTIONS = 2000


def run(target: str, executions: int, seed: int | None = None) -> None:
    """Check `executions` generated inputs; always the same ones without a seed. Raises what `check` raises."""
    strategy, check = TARGETS[target]
    given_data = given(strategy)(check)
    chosen = settings(
        max_examples=executions,
        deadline=timedelta(seconds=5),
        derandomize=seed is None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    if seed is not None:
        from hypothesis import seed as seeded

        given_data = seeded(seed)(given_data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen(given_data)()


@pytest.mark.parametrize("target", TARGETS)
def test_generated_inputs_are_answered_in_sentences(target: str) -> None:
    run(target, EXECUTIONS)

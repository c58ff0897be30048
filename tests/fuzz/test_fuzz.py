"""Generated inputs: no exception that is not a sentence, and no execution over 5 s."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import MODULES, run, target

pytestmark = pytest.mark.slow

EXECUTIONS = 2000


@pytest.mark.parametrize("name", MODULES)
def test_generated_inputs_are_answered_in_sentences(name: str) -> None:
    run(target(name), EXECUTIONS)

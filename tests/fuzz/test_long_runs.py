"""The longer command: parts are shared among processes, and what fails, hangs or dies is named and not the end."""

from __future__ import annotations

import json
import sys
import textwrap

import pytest
from hypothesis import strategies as st

from bench import fuzz
from bench.fuzz import Part
from tests.fuzz.targets import Target


def test_two_processes_share_the_executions_and_the_figures_are_sums(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz, "PART", 20)
    monkeypatch.setattr(sys, "argv", ["bench/fuzz.py", "captioner-replies", "--executions", "50", "--processes", "2"])
    assert fuzz.main() == 0
    *_, memory, total = capsys.readouterr().out.splitlines()
    assert total.startswith("captioner-replies: 50 executions, 0 failures, slowest 0.")
    assert len(memory.partition(": ")[2].split()) == 2


def test_parts_cover_the_executions_each_with_a_seed_of_its_own() -> None:
    assert fuzz.parts_of(4500, 7) == [Part(7, 2000), Part(8, 2000), Part(9, 500)]


def test_a_part_that_fails_is_reported_with_its_seed_and_the_next_one_runs() -> None:
    def check(number: int) -> None:
        assert number < 200, f"{number} is too many"

    failed, _, fine = fuzz.run_parts(Target(st.integers(0, 255), check), [Part(1, 60), Part(2, 0), Part(3, 1)])
    assert "200 is too many" in failed.failure
    assert (fine.seed, fine.executions, fine.failure) == (3, 1, "")


CHILD = """
import sys, json, os
from bench import fuzz
from hypothesis import strategies as st
from tests.fuzz.targets import Target

def check(number):
    {trouble}

fuzz.SECONDS_AT_MOST = 0.2
parts = [fuzz.Part(*json.loads(line)) for line in sys.stdin]
for figures in fuzz.run_parts(Target(st.just(1), lambda _: None), parts[:1]):
    print(json.dumps(figures), flush=True)
if len(parts) > 1:
    list(fuzz.run_parts(Target(st.just(1), check), parts[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "words"), [("while True: pass", "in check"), ("os.abort()", "ended with -6")])
def test_another_process_takes_over_where_one_hangs_or_dies(trouble: str, words: str) -> None:
    code = textwrap.dedent(CHILD).format(trouble=trouble)
    first, failed, last = fuzz.share([sys.executable, "-c", code], [Part(1, 1), Part(2, 1), Part(3, 1)])
    assert [each.seed for each in (first, failed, last)] == [1, 2, 3]
    assert words in failed.failure
    assert not json.dumps([first.failure, last.failure]).strip('[", ]')

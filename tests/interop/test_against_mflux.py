"""The bench against mflux takes steps of both, of one size; what it measures at this size means nothing."""

from __future__ import annotations

import pytest

from bench import against_mflux, contest
from bench.against_mflux import MODELS, WHO, Contest


@pytest.mark.parametrize("model", MODELS)
def test_all_four_take_steps_on_networks_of_one_size(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    against_mflux.report(Contest(model, "float32", side=64, batch=2, shrink=True), list(WHO), 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line[26:47].strip() for line in lines] == list(WHO.values())
    for line in lines:
        milliseconds, megabytes, *ratios = map(float, line[47:].split())
        assert milliseconds > 0
        assert megabytes > 0
        assert len(ratios) == (3 if "ours" in line else 0)


def test_contestants_of_two_sizes_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    class Contestant:
        closed = 0

        def __init__(self, command: list[str], python: str) -> None:
            self.description = {"base": len(command[3])}  # "plain" is longer than "kept"

        def close(self) -> None:
            Contestant.closed += 1

    monkeypatch.setattr(contest, "Contestant", Contestant)
    with pytest.raises(SystemExit, match="Their sizes differ"):
        against_mflux.compare(Contest("klein", "float32", 64, 1, True), ["plain", "kept"], 1)
    assert Contestant.closed == 2

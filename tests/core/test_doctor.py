"""`likeness doctor` shows the computer and writes a file that can be given to strangers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from core.device import capabilities, first_test
from core.device.capabilities import Result
from core.device.identity import this_machine
from core.hub import catalog

pytestmark = pytest.mark.slow

FOUND = [
    Result("attention", True, 3e-7, 1e-3, seconds=0.1),
    Result("norm", False, 0.5, 1e-3, fallback_right=True, seconds=0.2),
]


def test_it_shows_everything_and_names_nothing_that_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "somebody" / "cache"))
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "somebody" / "Likeness"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("LIKENESS_SELFTEST", raising=False)
    tested: list[int] = []
    monkeypatch.setattr(first_test, "run_test", lambda: (tested.append(1), FOUND)[1])
    out = tmp_path / "report.txt"
    capabilities.remember(this_machine(), [])
    with capabilities.replaced():
        first = CliRunner().invoke(cli, ["doctor", "--quick", "--again", "--out", str(out), "--json"])
    capabilities.activate([])
    assert first.exit_code == 0, first.stderr
    assert tested, "--again repeats the test"

    text = out.read_text()
    for section in ("Programs", "Computer", "Conditions", "Kernels", "Attention", "Models"):
        assert re.search(rf"^{section}$", text, re.MULTILINE), section
    assert this_machine().chip in text
    assert re.search(r"attention +right: attention, off by 3.0e-07 of at most 1.0e-03", text)
    assert re.search(r"norm +WRONG, fallback right", text)
    assert "It is replaced by plain operations." in text
    assert re.search(r"a step [\d.]+ s, a picture of \d+ steps [\d.]+ s, at most [\d.]+ GB", text)
    assert catalog.find("pocket").title in text
    for private in ("hf_secret", "somebody", str(tmp_path), str(Path.home()) + "/"):
        assert private not in text
    assert len(json.loads(first.stdout.splitlines()[-1])["kernels"]) == len(FOUND)
    assert str(out) in first.stderr

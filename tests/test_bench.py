"""No command that README names, or that `make bench` runs, breaks unseen: each explains itself, and many are tried.

The figures at these sizes mean nothing. Tests of their own try memory_estimate, loading, cost_curves, text_encoding,
distributed and, with the references, against_mflux.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import full_size, precision
from core.pocket.assets import EXAMPLES
from tests import tiny_dinov2
from tests.tiny import make_model_folder

ROOT = Path(__file__).resolve().parents[1]
BENCH = "\n".join(line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "-m bench." in line)
NAMED = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
COMMANDS = sorted({*re.findall(r"-m bench\.(\w+)(.*)", BENCH), *re.findall(r"`python -m bench\.(\w+)([^`]*)`", NAMED)})

HERE = {path.stem for path in (ROOT / "bench").glob("*.py") if "def main(" in path.read_text(encoding="utf-8")}


def run(monkeypatch: pytest.MonkeyPatch, name: str, *given: str) -> None:
    """`python -m bench.<name> ...` in this process."""
    monkeypatch.setattr(sys, "argv", [f"bench/{name}.py", *given])
    importlib.import_module(f"bench.{name}").main()


@pytest.mark.parametrize("name", sorted(HERE))
def test_every_command_explains_itself_and_the_options_it_is_given_are_there(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "pocket_recognition":
        pytest.importorskip("torch")  # of the interop group
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, name, "--help")
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith("usage:")
    options = {option for each, given in COMMANDS if each == name for option in re.findall(r"--[\w-]+", given)}
    assert options <= set(re.findall(r"--[\w-]+", output))


def test_make_bench_runs_what_needs_nothing_by_hand() -> None:
    assert {name for name, _ in COMMANDS} <= HERE
    assert len(re.findall("-m bench", BENCH)) > 8


@pytest.mark.slow
def test_products_and_exponentials_are_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "openblas")
    run(monkeypatch, "exponentials")
    output = capsys.readouterr().out
    assert len(re.findall(r"^(?:matmul|linear|conv2d|its gradient|attention).* times$", output, re.MULTILINE)) == 5
    assert len(re.findall(r"MLX's own +[\d.]+ ms   powers of two +[\d.]+ ms$", output, re.MULTILINE)) == 3


@pytest.mark.slow
def test_a_step_and_a_picture_are_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "step_time", "--steps", "1", "--side", "64")
    output = capsys.readouterr().out
    assert re.search(r"batch 2, rank 16, 64 px, .*\nstep +[\d.]+ s.*\npicture +[\d.]+ s.*\npeak ", output)


@pytest.mark.slow
def test_a_packed_base_is_a_little_off_and_fewer_bits_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "SIDE_PX", 64)
    monkeypatch.setattr(precision, "BITS", (8, 4))
    found = precision.velocity_errors()
    assert len(found) == 3
    assert all(0 < eight < four < 0.5 for eight, four in found.values())
    assert all(len(times) == 2 for times in precision.product_times().values())


@pytest.mark.browser
def test_the_studio_is_timed_to_its_first_page_and_an_event_to_the_browser() -> None:
    few = "it.STARTS = it.EVENTS = 1; it.KNOBS['side_px'] = 64"
    once = f"import sys; from bench import first_page as it; {few}; sys.argv[1:] = []; it.main()"
    done = subprocess.run(  # a process has one browser driver, and other tests may have had it
        [sys.executable, "-c", once], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^first page +[\d.]+ s.*\nevent +[\d.]+ s, slowest [\d.]+ s of 1, ", done.stdout)


@pytest.mark.slow
def test_a_job_at_full_size_is_measured_by_its_phases_and_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(full_size, "GIB", 2**20)  # a small job's figures in MB, or they would all be 0.0
    options = ["--models", "klein-4b", "--precisions", "4-bit", "--activations", "none", "--side", "64"]
    run(monkeypatch, "full_size", *options, "--shrink", "--text")
    head, row = capsys.readouterr().out.splitlines()[1:]
    assert re.search(r"weights +step +picture +score +text +photo +load +most +device$", head)
    figures = re.findall(r"\d+\.\d+", row.partition("none")[2])[:10]
    weights, _, stepping, _, drawing, score, text, photo, load, most = map(float, figures)
    assert score > 0
    assert most == max(stepping, drawing, text, photo, load, most)
    assert min(stepping, drawing, load) > weights > 0
    assert text > 0
    assert photo > 0


def test_the_turning_point_of_a_dense_curve_is_that_of_its_trend(monkeypatch: pytest.MonkeyPatch) -> None:
    readable_loss = importlib.import_module("bench.readable_loss")
    draw = np.random.default_rng(0)
    level = draw.uniform(0.2, 1.0, (2, 64))  # of each photo and draw
    curve = {step: 1 - 0.1 * (1 - math.exp(-((step / 12) ** 1.5))) + 0.0005 * step for step in range(0, 241, 4)}
    jumpy = {step: value + (draw.normal(0, 0.002) if step else 0) for step, value in curve.items()}
    turn = min(range(1, 240), key=lambda step: 1 - 0.1 * (1 - math.exp(-((step / 12) ** 1.5))) + 0.0005 * step)
    assert readable_loss.turning_point(jumpy) == pytest.approx(turn, rel=0.1)
    dense = {step: level * value * (1 + draw.normal(0, 0.01, level.shape)) for step, value in curve.items()}
    low, high = readable_loss.turning_interval(dense)
    assert turn - 8 < low < high < turn + 8


@pytest.mark.slow
def test_the_analysis_of_photos_is_judged_by_boxes_and_made_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    for name in ("01.jpg", "02.jpg", "05.jpg"):
        shutil.copy(EXAMPLES / name, folder / name)
    boxes = [{"photo": "toy/01.jpg", "boxes": [[0.2, 0.12, 0.8, 0.88], [0.9, 0.9, 1, 1]]}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes), encoding="utf-8")
    eval_vision = importlib.import_module("bench.eval_vision")
    monkeypatch.setattr(eval_vision, "BURST", 2)
    monkeypatch.setattr(eval_vision, "SCREENS", 2)
    with pytest.raises(SystemExit):  # its time is that of a busy machine
        run(monkeypatch, "eval_vision", str(tmp_path))
    output = capsys.readouterr().out
    assert re.search(r"^ok   subject boxes of 1 photos: mean IoU \(0.80\) +0\.[89]", output, re.MULTILINE)
    assert re.search(r"^ok   default crop holds 95% of the box \(95%\) +100%$", output, re.MULTILINE)
    assert re.search(r"^ok   6 near-duplicates made: found, one group each \(98%\) +100.0%$", output, re.MULTILINE)
    assert re.search(r"^ok   3 pairs of different photos: called alike \(2%\) +0.0%$", output, re.MULTILINE)
    assert re.search(r"^ok   2 screens drawn: found \(90%\) +100%$", output, re.MULTILINE)
    assert re.search(r"^ {5}toy: 3 good photos; few photos\. Only 3 photos", output, re.MULTILINE)


@pytest.mark.slow
def test_features_of_photos_are_compared_within_sets_and_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIKENESS_DEVICE", "cpu")  # the bench sets it
    for folder, names in (("toy", ("01.jpg", "02.jpg")), ("other", ("05.jpg",))):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(EXAMPLES / name, tmp_path / "photos" / folder / name)
    monkeypatch.setattr(importlib.import_module("bench.eval_dinov2"), "BURST", 1)
    run(monkeypatch, "eval_dinov2", str(tmp_path / "photos"), str(tiny_dinov2.make_model_folder(tmp_path / "model")))
    output = capsys.readouterr().out
    assert re.search(r"^cosine of 3 made near-duplicates +1%: 0\.9", output, re.MULTILINE)
    assert re.search(r"^cosine of 1 pairs of one subject +1%: ", output, re.MULTILINE)
    assert "3 strangers among the photos of a set: named 0%" in output  # too few photos to say so of any
    assert "3 photos of their own sets: named 0" in output


@pytest.fixture
def toy_subject(tmp_path: Path) -> Path:
    """A folder with one subject of four photos, beside a tiny model."""
    make_model_folder(tmp_path / "model")
    folder = tmp_path / "photos" / "toy"
    folder.mkdir(parents=True)
    for name in ("01.jpg", "02.jpg", "05.jpg", "06.jpg"):
        shutil.copy(EXAMPLES / name, folder / name)
    return tmp_path / "photos"


@pytest.mark.slow
def test_the_suggested_checkpoint_is_held_to_a_judge_of_its_own(
    toy_subject: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(tmp_path / "model"), "--shrink", "--runs", "2", "--seeds", "2"]
    options += ["--out", str(tmp_path / "out")]
    run(monkeypatch, "choice", str(toy_subject), *options)
    output = capsys.readouterr().out
    assert re.search(r"^toy +2 +0.004 +2 +\d +-?\d\.\d{3} +\d\.\d{3} ", output, re.MULTILINE)
    assert re.search(r"^(ok|NOT) +suggested within one checkpoint of the judge's best: [01] ", output, re.MULTILINE)
    (record,) = json.loads((tmp_path / "out" / "choice.json").read_text(encoding="utf-8"))
    assert list(record["judged"]) == ["1", "2"]
    assert [each["step"] for each in record["drawn"]] == [0, 1, 2]
    assert (tmp_path / "out" / "choice.jpg").stat().st_size > 1000
    run(monkeypatch, "choice", "--again", str(tmp_path / "out" / "choice.json"))
    assert capsys.readouterr().out in output


@pytest.mark.slow
def test_the_leak_meter_is_held_to_a_judge_of_its_own(
    toy_subject: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leak = importlib.import_module("bench.leak")
    monkeypatch.setattr(leak, "WAYS", {**leak.WAYS, "magic": {"magic": 1}})
    options = ["--model", str(tmp_path / "model"), "--shrink", "--run-seeds", "1", "--seeds", "2"]
    options += ["--out", str(tmp_path / "out")]
    run(monkeypatch, "leak", str(toy_subject), *options)
    output = capsys.readouterr().out
    assert "This version has no magic: 'magic' is left out." in output
    for way in ("none", "pictures"):
        assert re.search(rf"^toy +{way} +-?\d\.\d{{3}} +\d\.\d{{3}} ", output, re.MULTILINE)
    assert re.search(r"the meter's order is the judge's in \d of \d sure pairs", output)
    assert (tmp_path / "out" / "leak.jpg").stat().st_size > 1000


@pytest.mark.slow
def test_diagnoses_and_their_cost_are_compared_with_dense_scores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "readable_loss", "--runs", "overfit", "--shrink")
    output = capsys.readouterr().out
    assert len(re.findall(r"^cost with .* scores in \d+ steps: [\d.]+%$", output, re.MULTILINE)) == 2
    assert re.search(r"^overfit: 8 steps at rate 0.001, 2 held out\n  words +Too early to say", output, re.MULTILINE)
    assert re.search(r"dense +0:1.000 4:[\d.]+ 8:[\d.]+\n +lowest [\d.]+ at step \d+, as good from", output)

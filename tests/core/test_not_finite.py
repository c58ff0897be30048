"""A picture that is not finite: a failure that names the adapter, a warning in a run, and never a black file."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from core.adapters import lora
from core.errors import PictureProblem
from core.models.base import Family
from core.sampling import draw, to_image
from core.training.events import Note, Sampled
from tests.core.subjects import training
from tests.core.test_cli import likeness, object_of

LAYER = "transformer_blocks.1.attn.to_q"


def overflowing(family: Family, path: Path) -> Path:
    """An adapter of finite numbers whose product is not."""
    rows, columns = lora.find(family.transformer, LAYER).weight.shape
    tensors = {
        f"transformer.{LAYER}.lora_A.weight": mx.full((2, columns), 1e30, dtype=mx.bfloat16),
        f"transformer.{LAYER}.lora_B.weight": mx.full((rows, 2), 1e30, dtype=mx.bfloat16),
    }
    mx.save_safetensors(str(path), tensors)
    return path


def test_an_adapter_that_overflows_fails_by_name_and_leaves_no_file(
    family: Family, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    adapter, out = overflowing(family, tmp_path / "wild.safetensors"), tmp_path / "p.png"
    words = ["--model", model_folder, "--prompt", "a can", "--out", out, "--adapter", adapter, "--json"]
    result = likeness("sample", *words, "--strength", "0.5")
    assert result.exit_code == 1
    assert "The picture is not finite: with wild.safetensors at strength 0.5" in result.stderr
    assert object_of(result)["error"]["code"] == "picture"
    assert list(tmp_path.glob("*.png")) == []


def test_a_model_that_overflows_by_itself_blames_no_adapter(family: Family) -> None:
    with pytest.raises(PictureProblem, match="Check that its files are whole"):
        draw(family, "a can", height_px=32, width_px=32, steps=1, guidance=float("inf"), seed=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_pixel_is_enough(value: float) -> None:
    with pytest.raises(PictureProblem, match="with one and two the model"):
        to_image(mx.array([[[[0.0, 0.0, 0.0], [0.0, value, 0.0]]]]), ["one", "two"])


def test_a_sample_that_is_not_finite_is_a_warning_and_no_picture(family: Family, photos: Path, tmp_path: Path) -> None:
    start = overflowing(family, tmp_path / "wild.safetensors")
    run = training(family, photos, tmp_path / "run", start_from=start, sample_every=1, sample_prompts=("a", "b"))
    left_out: list[str] = []
    while len(left_out) < 2:
        event = next(run)
        assert not isinstance(event, Sampled)
        left_out += [event.text] if isinstance(event, Note) and event.level == "warning" else []
    run.close()
    assert left_out[0].startswith("Sample 1 of step 0 is left out. The picture is not finite: with this run's adapter")
    assert left_out[1].startswith("Sample 2 of step 0 is left out.")
    assert not list((tmp_path / "run").rglob("*.png"))


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("strength", "5", "is 5.0; it can be -4 to 4"),
        ("strength", "nan", "is nan; it must be a number -4 to 4"),
        ("seed", "-1", "is -1; it can be 0 to 2147483647"),
        ("seed", "2147483648", "is 2147483648; it can be 0 to 2147483647"),
        ("steps", "0", "is 0; it can be 1 to 200"),
        ("steps", "201", "is 201; it can be 1 to 200"),
        ("width", "2064", "is 2064; it can be 64 to 2048"),
        ("height", "100", "is 100 px; it must be a multiple of 16"),
    ],
)
def test_the_command_line_has_the_limits_of_the_api(option: str, value: str, sentence: str, tmp_path: Path) -> None:
    result = likeness("sample", "--prompt", "a can", "--out", tmp_path / "p.png", f"--{option}", value, "--json")
    assert result.exit_code == 2
    assert object_of(result)["error"]["problems"] == [{"field": f"--{option}", "message": sentence}]

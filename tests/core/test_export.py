"""The portable adapter file: names, dtype, no alpha, strings only; what is broken or foreign is named."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from core.adapters import diffusers, lora
from core.adapters import file as adapter_file
from core.errors import AdapterProblem
from core.models.base import Family
from core.models.flux1 import Flux1
from core.safetensors_file import read_header
from core.training import checkpoint
from core.training.events import Finished
from tests.core.subjects import settings, training

FACTORS = {"transformer_blocks.0.attn.to_q": (mx.ones((2, 6)), mx.full((5, 2), 0.5))}


def test_a_written_adapter_reads_back_as_it_was(tmp_path: Path) -> None:
    diffusers.write(tmp_path / "a.safetensors", FACTORS, {"modelspec.trigger_phrase": "sks"})
    found = adapter_file.read(tmp_path / "a.safetensors", "flux1")
    assert (found.rank, found.trigger) == (2, "sks")
    for index in (0, 1):
        assert mx.array_equal(
            found.factors["transformer_blocks.0.attn.to_q"][index], FACTORS["transformer_blocks.0.attn.to_q"][index]
        )


def test_a_run_writes_the_one_form(family: Family, photos: Path, tmp_path: Path) -> None:
    finished = list(training(family, photos, tmp_path / "run", rank=2, alpha=8, steps=2))[-1]
    assert isinstance(finished, Finished)
    header = read_header(finished.adapter)
    expected = {
        f"transformer.{path}.lora_{which}.weight" for path in family.presets["all_linear"] for which in ("A", "B")
    }
    assert header.tensors.keys() == expected
    assert {info.dtype for info in header.tensors.values()} == {"BF16"}
    assert header.metadata["format"] == "pt"
    assert header.metadata["modelspec.trigger_phrase"] == "sks"
    assert header.metadata["ss_network_alpha"] == header.metadata["ss_network_dim"] == "2"
    assert str(tmp_path) not in str(header.metadata)
    assert "a photo of" not in str(header.metadata)


def test_alpha_over_rank_is_folded_into_b(family: Family) -> None:
    path = family.presets["all_linear"][0]
    adapter = lora.attach(family.transformer, [path], 2, 8.0, mx.random.key(0))
    parameters = adapter.parameters()
    adapter.update(parameters | {f"{path}.lora_B": mx.ones_like(parameters[f"{path}.lora_B"])})
    assert mx.array_equal(adapter.folded()[path][1], 4.0 * parameters[f"{path}.lora_B"] + 4.0)


def test_an_imported_adapter_draws_as_the_trained_one(family: Family, photos: Path, tmp_path: Path) -> None:
    finished = list(training(family, photos, tmp_path / "run", learning_rate=0.05))[-1]
    grid = family.grid(64, 64)
    noise = mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(0))

    def velocity() -> mx.array:
        return family.velocity(noise, mx.array([0.7]), family.encode_text(["a photo of sks can"]), grid, 1.0)

    base = velocity()
    held = adapter_file.read(finished.adapter, "flux1")
    lora.attach_factors(family.transformer, held.factors, name="imported")
    assert mx.abs(velocity() - base).max().item() > 0.01


@pytest.mark.parametrize(
    ("factors", "sentence"),
    [
        ({}, "has no layers"),
        ({"a": (mx.ones((2, 3)), mx.zeros((4, 2)))}, "all zeros"),
        ({"a": (mx.ones((2, 3)), mx.full((4, 2), mx.nan))}, "not numbers"),
    ],
)
def test_an_adapter_that_is_worth_nothing_is_not_written(tmp_path: Path, factors: dict, sentence: str) -> None:
    with pytest.raises(AdapterProblem, match=sentence):
        diffusers.write(tmp_path / "a.safetensors", factors, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"lora_unet_double_blocks_0.lora_down.weight": mx.ones((2, 3))}, "lora_unet_double_blocks_0"),
        ({"transformer.img_in.lora_A.weight": mx.ones((2, 3))}, "has no lora_B"),
        (
            {
                "transformer.img_in.lora_A.weight": mx.ones((2,)),
                "transformer.img_in.lora_B.weight": mx.ones((4, 2)),
            },
            "a matrix",
        ),
        (
            {
                "transformer.img_in.lora_A.weight": mx.ones((2, 3)),
                "transformer.img_in.lora_B.weight": mx.full((4, 2), mx.inf),
            },
            "not numbers",
        ),
    ],
)
def test_a_foreign_adapter_is_named(tmp_path: Path, tensors: dict[str, mx.array], sentence: str) -> None:
    mx.save_safetensors(str(tmp_path / "a.safetensors"), tensors)
    with pytest.raises(AdapterProblem, match=sentence):
        adapter_file.read(tmp_path / "a.safetensors", "flux1")


def test_a_broken_adapter_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    diffusers.write(path, FACTORS, {})
    whole = path.read_bytes()
    for content in (b"", b"not an adapter at all", whole[:40], whole[:-3]):
        path.write_bytes(content)
        with pytest.raises(AdapterProblem, match=r"a\.safetensors"):
            adapter_file.read(path, "flux1")
    with pytest.raises(AdapterProblem, match="is not there"):
        adapter_file.read(tmp_path / "missing.safetensors", "flux1")


def test_a_file_of_layers_with_ranks_of_their_own_holds_each_at_its_own_strength(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    knobs = {"ranks": "attention=3, *.proj_out=1:4", "steps": 2, "learning_rate": 0.05}
    finished = list(training(family, photos, tmp_path / "run", **knobs))[-1]
    state = checkpoint.load(finished.adapter.parent)
    for path, (a_RI, b_OR) in adapter_file.read(finished.adapter, "flux1").factors.items():
        rank, scale = (3, 1.0) if path in family.presets["attention"] else (1, 4.0) if "proj_out" in path else (2, 1.0)
        assert a_RI.shape[0] == rank
        assert mx.allclose(b_OR, scale * state.parameters[f"{path}.lora_B"], rtol=1e-2)
    header = read_header(finished.adapter)
    assert (header.metadata["ss_network_dim"], header.metadata["ss_network_alpha"]) == ("3", "3")


def test_a_strength_that_another_program_keeps_in_its_metadata_is_honoured(tmp_path: Path) -> None:
    mx.save_safetensors(
        str(tmp_path / "a.safetensors"),
        {
            "transformer.img_in.lora_A.weight": mx.ones((2, 3)),
            "transformer.img_in.lora_B.weight": mx.ones((4, 2)),
        },
        {"lora_adapter_metadata": '{"transformer.r": 2, "transformer.lora_alpha": 8}'},
    )
    assert adapter_file.read(tmp_path / "a.safetensors", "flux1").factors["x_embedder"][1][0, 0].item() == 4.0


def test_the_header_does_not_say_where_the_users_model_lies() -> None:
    metadata = diffusers.metadata_for(
        settings(model="/home/me/models/mine"),
        family="flux1",
        modelspec=Flux1.modelspec,
        title="t",
        trigger="sks",
        step=3,
        rank=4,
        photos=2,
        started_at=0,
    )
    assert metadata["ss_sd_model_name"] == "mine"
    assert "/home" not in str(metadata)
    assert all(isinstance(value, str) for value in metadata.values())

"""A transformer with an adapter merged in: W + strength B A where there is an adapter, the same bytes elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from core.adapters import lora, merge
from core.adapters.lora import Factors
from core.errors import AdapterProblem, ModelProblem
from core.models.base import Family
from core.models.load import load_family
from core.safetensors_file import read_header
from core.weights.places import DIFFUSERS as STEM
from tests.core.test_adapter_forms import of_model, random_factors
from tests.peak import peak

TARGET = "transformer_blocks.1.ff.net.2"


@pytest.fixture
def transformer(model_folder: Path) -> Path:
    return model_folder / "transformer"


def stored(folder: Path, tmp_path: Path, dtype: mx.Dtype, shards: int = 1) -> Path:
    """A copy of a transformer's folder in another dtype, in one file or in several."""
    target = tmp_path / "transformer"
    target.mkdir()
    shutil.copy(folder / "config.json", target)
    tensors = {name: value.astype(dtype) for name, value in mx.load(str(folder / f"{STEM}.safetensors")).items()}
    names, table = sorted(tensors), {}
    for shard in range(shards):
        file = f"{STEM}.safetensors" if shards == 1 else f"{STEM}-{shard + 1:05}-of-{shards:05}.safetensors"
        chosen = names[shard::shards]
        mx.save_safetensors(str(target / file), {name: tensors[name] for name in chosen})
        table |= dict.fromkeys(chosen, file)
    if shards > 1:
        (target / f"{STEM}.safetensors.index.json").write_text(json.dumps({"weight_map": table}), encoding="utf-8")
    return target


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("shards", [1, 3])
def test_the_merged_file_is_the_weights_with_the_product_added(
    family: Family, transformer: Path, tmp_path: Path, dtype: mx.Dtype, shards: int
) -> None:
    source = stored(transformer, tmp_path, dtype, shards)
    factors = {path: pair for path, pair in of_model(family).items() if "to_k" not in path}
    done = []
    found = merge.write(
        tmp_path / "m.safetensors", source, factors, {"a": "b"}, strength=0.5, on_tensor=lambda *each: done.append(each)
    )
    base = {name: value for path in source.glob("*.safetensors") for name, value in mx.load(str(path)).items()}
    after = mx.load(str(tmp_path / "m.safetensors"))
    assert base.keys() == after.keys()
    for name, value in base.items():
        pair = factors.get(name.removesuffix(".weight"))
        change = 0.5 * pair[1] @ pair[0] if pair and name.endswith(".weight") else mx.array(0.0)
        assert mx.array_equal(after[name], (value.astype(mx.float32) + change).astype(dtype)), name
    assert found.layers == len(factors)
    assert found.kept == pytest.approx(1.0, abs=0.02)
    assert done[-1] == (len(base), len(base))
    metadata = read_header(tmp_path / "m.safetensors").metadata
    assert (metadata["format"], metadata["a"]) == ("pt", "b")
    assert json.loads(metadata["config"])["num_layers"] == 2


def test_the_model_with_the_merged_file_draws_as_with_the_adapter(
    family: Family, model_folder: Path, tmp_path: Path
) -> None:
    factors = of_model(family)
    copy = shutil.copytree(model_folder, tmp_path / "model")
    merge.write(copy / "transformer" / f"{STEM}.safetensors", model_folder / "transformer", factors, {})
    conditioning, grid = family.encode_text(["a red can"]), family.grid(64, 64)
    noise = mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(0))

    def velocity(of: Family) -> mx.array:
        return of.velocity(noise, mx.array([0.7]), conditioning, grid, 1.0)

    plain = velocity(family)
    lora.attach_factors(family.transformer, factors, name="a")
    adapted, whole = velocity(family), velocity(load_family(copy))
    assert mx.linalg.norm(whole - adapted).item() <= 1e-4 * mx.linalg.norm(adapted).item()
    assert mx.linalg.norm(whole - plain).item() > 0.1 * mx.linalg.norm(plain).item()


def test_what_rounding_takes_from_a_small_change_is_told(transformer: Path, tmp_path: Path) -> None:
    source = stored(transformer, tmp_path, mx.bfloat16)
    a_RI, b_OR = random_factors({TARGET: (32, 128)})[TARGET]
    found = merge.write(tmp_path / "m.safetensors", source, {TARGET: (a_RI, 1e-6 * b_OR)}, {})
    assert found.kept < 0.9


def test_memory_holds_one_layer_and_not_the_model(tmp_path: Path) -> None:
    side, layers = 256, 24
    folder = tmp_path / "transformer"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    one = side * side * 4
    names = [f"blocks.{index}.weight" for index in range(layers)]
    mx.save_safetensors(str(folder / f"{STEM}.safetensors"), {name: mx.ones((side, side)) for name in names})
    factors = random_factors({name.removesuffix(".weight"): (side, side) for name in names}, (2,))
    mx.eval(list(factors.values()))
    mx.clear_cache()
    with peak() as taken:
        merge.write(tmp_path / "m.safetensors", folder, factors, {})
    assert taken.over < 8 * one < layers * one


def bad(case: str) -> Factors:
    pair = (mx.ones((2, 128)), mx.ones((32, 2)))
    return {
        "strange": {"blocks.0": pair},
        "misshapen": {TARGET: (mx.ones((2, 64)), mx.ones((32, 2)))},
        "zeros": {TARGET: (mx.ones((2, 128)), mx.zeros((32, 2)))},
        "too large": {TARGET: (pair[0], 1e5 * pair[1])},
    }[case]


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("strange", r"blocks\.0: is not in this model"),
        ("misshapen", r"is for a layer of 64 in and 32 out; this model's weight is \(32, 128\)"),
        ("zeros", "all zeros"),
        ("too large", f"{TARGET} overflows F16"),
    ],
)
def test_an_adapter_that_does_not_fit_is_not_merged(
    transformer: Path, tmp_path: Path, case: str, sentence: str
) -> None:
    source = stored(transformer, tmp_path, mx.float16)
    with pytest.raises(AdapterProblem, match=sentence):
        merge.write(tmp_path / "out" / "m.safetensors", source, bad(case), {})
    assert not list(tmp_path.glob("out/*"))


def test_a_stop_between_two_tensors_leaves_nothing(family: Family, transformer: Path, tmp_path: Path) -> None:
    def stop(done: int, _of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge.write(tmp_path / "m.safetensors", transformer, of_model(family), {}, on_tensor=stop)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_damaged_model_is_a_sentence(family: Family, transformer: Path, tmp_path: Path) -> None:
    source = stored(transformer, tmp_path, mx.float16)
    (source / "config.json").unlink()
    with pytest.raises(ModelProblem, match=r"config\.json cannot be read"):
        merge.write(tmp_path / "m.safetensors", source, of_model(family), {})
    (source / f"{STEM}.safetensors").write_bytes(b"short")
    with pytest.raises(ModelProblem, match="cut off"):
        merge.write(tmp_path / "m.safetensors", source, of_model(family), {})


def test_a_file_that_changed_on_its_way_to_the_disk_is_not_offered(
    family: Family, transformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.adapters.merge.files.sha256_of", lambda _: "of something else")
    with pytest.raises(AdapterProblem, match="reading it back gives other values"):
        merge.write(tmp_path / "m.safetensors", transformer, of_model(family), {})
    assert not list(tmp_path.glob("*.safetensors"))

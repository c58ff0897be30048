"""A safetensors file is believed in nothing; a model folder that does not fit says all that is wrong at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from safetensors import safe_open

from core import safetensors_file
from core.adapters.file import contents_of
from core.errors import AdapterProblem, ModelProblem
from core.models.flux1 import FluxTransformer
from core.models.load import load_family
from core.models.parts import read_weights
from core.safetensors_file import read_header, weight_files, weights_sha256
from tests import tiny


def file_of(path: Path, header: dict | bytes, body: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_header_names_every_tensor_and_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    mx.save_safetensors(str(path), {"x": mx.zeros((2, 3)), "y": mx.zeros((4,), mx.bfloat16)}, {"format": "pt"})
    header = read_header(path)
    assert {name: (info.dtype, info.shape) for name, info in header.tensors.items()} == {
        "x": ("F32", (2, 3)),
        "y": ("BF16", (4,)),
    }
    assert header.metadata == {"format": "pt"}
    assert header.parameters == 10


GOOD = tensor([2], 0, 8)
BROKEN = {
    "empty": (b"", "cut off"),
    "text": (b"this is not a safetensors file at all", "cut off"),
    "longer than the file": ((10**15).to_bytes(8, "little") + b"{}", "cut off"),
    "no JSON": ((4).to_bytes(8, "little") + b"\xff\xfe{}", "header cannot be read"),
    "no table": ((2).to_bytes(8, "little") + b"[]", "no table of tensors"),
    "deeply nested": ((200_000).to_bytes(8, "little") + b"[" * 200_000, "header cannot be read"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_no_safetensors_file_is_a_sentence(tmp_path: Path, kind: str) -> None:
    content, words = BROKEN[kind]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterProblem, match=words) as caught:
        read_header(path, AdapterProblem)
    assert "broken.safetensors" in caught.value.message


DAMAGED = {
    "cut off": ({"x": tensor([4], 0, 16)}, "its header describes 16"),
    "gap": ({"x": tensor([1], 4, 8)}, "begins at byte 4"),
    "overlap": ({"x": GOOD, "y": tensor([1], 4, 8)}, "begins at byte 4"),
    "size": ({"x": tensor([1000, 1000], 0, 8)}, "its shape needs 4,000,000"),
    "type": ({"x": tensor([2], 0, 8, "F31")}, "unknown type 'F31'"),
    "negative shape": ({"x": tensor([-2], 0, 8)}, "impossible shape"),
    "true as shape": ({"x": tensor([True, 2], 0, 8)}, "impossible shape"),
    "endless shape": ({"x": tensor([2**40] * 9, 0, 8)}, "impossible shape"),
    "place": ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}, "impossible place"),
    "no table": ({"x": 5}, "no table"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_names_the_tensor(tmp_path: Path, kind: str) -> None:
    header, words = DAMAGED[kind]
    with pytest.raises(ModelProblem, match="is damaged") as caught:
        read_header(file_of(tmp_path / "x.safetensors", header, b"\0" * 8))
    assert words in str(caught.value)


def test_a_name_may_not_appear_twice_and_metadata_must_be_text(tmp_path: Path) -> None:
    one = json.dumps(GOOD).encode()
    with pytest.raises(ModelProblem, match="twice"):
        read_header(file_of(tmp_path / "a.safetensors", b'{"x":' + one + b',"x":' + one + b"}", b"\0" * 8))
    with pytest.raises(ModelProblem, match="metadata"):
        read_header(file_of(tmp_path / "b.safetensors", {"__metadata__": {"a": 1}}))


def test_every_missing_left_over_and_misshapen_tensor_is_named(tmp_path: Path) -> None:
    transformer = FluxTransformer(tiny.TRANSFORMER)
    tensors = dict(tree_flatten(transformer.parameters()))
    del tensors["x_embedder.bias"]
    tensors["proj_out.weight"] = mx.zeros((3, 5))
    tensors["stranger"] = mx.zeros((1,))
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    mx.save_safetensors(str(path), tensors)
    with pytest.raises(ModelProblem) as caught:
        read_weights(transformer, [path], mx.float32)
    assert {each.field: each.message for each in caught.value.problems} == {
        "proj_out.weight": "is 3 x 5; it should be 16 x 32",
        "stranger": "does not belong to this model",
        "x_embedder.bias": "is missing; it should be 32",
    }


def test_a_tensor_of_another_kind_is_named_with_what_it_must_be(tmp_path: Path) -> None:
    transformer = FluxTransformer(tiny.TRANSFORMER)
    tensors = dict(tree_flatten(transformer.parameters()))
    tensors["proj_out.weight"] = mx.zeros((16, 32), mx.uint8)
    del tensors["x_embedder.bias"]
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    mx.save_safetensors(str(path), tensors)
    with pytest.raises(ModelProblem) as caught:
        read_weights(transformer, [path], mx.float32)
    assert {each.field: each.message for each in caught.value.problems} == {
        "proj_out.weight": "is U8; it must be BF16, F16, F32, F8_E4M3, F8_E5M2",
        "x_embedder.bias": "is missing; it should be 32",
    }


@pytest.mark.parametrize("stored", [mx.bfloat16, mx.float16, mx.float32])
@pytest.mark.parametrize("bits", [None, 8])
def test_checkpoints_of_16_and_32_bits_are_read_alike(tmp_path: Path, stored: mx.Dtype, bits: int | None) -> None:
    folder = tiny.make_model_folder(tmp_path, heads=4)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    kept = {name: value.astype(stored) for name, value in mx.load(str(file)).items()}
    mx.eval(kept)
    mx.save_safetensors(str(file), kept)
    found = dict(tree_flatten(load_family(folder, dtype=mx.float32, quantize=bits).transformer.parameters()))
    name = "transformer_blocks.0.attn.to_q"
    expected = {f"{name}.weight": kept[f"{name}.weight"].astype(mx.float32)}
    if bits:
        packed = mx.quantize(expected[f"{name}.weight"], group_size=64, bits=bits)
        expected = dict(zip((f"{name}.weight", f"{name}.scales", f"{name}.biases"), packed, strict=True))
    expected["x_embedder.weight"] = kept["x_embedder.weight"].astype(mx.float32)
    for each, value in expected.items():
        assert mx.array_equal(found[each], value).item(), each


def test_shards_are_read_as_one_and_missing_shards_are_all_named(tmp_path: Path) -> None:
    folder = tiny.make_model_folder(tmp_path)
    part = folder / "transformer"
    whole = part / "diffusion_pytorch_model.safetensors"
    tensors = mx.load(str(whole))
    shards = {"part-1.safetensors": sorted(tensors)[::2], "part-2.safetensors": sorted(tensors)[1::2]}
    for file, names in shards.items():
        mx.save_safetensors(str(part / file), {name: tensors[name] for name in names})
    index = {"weight_map": {name: file for file, names in shards.items() for name in names}}
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()
    loaded = dict(tree_flatten(load_family(folder).transformer.parameters()))
    assert all(mx.array_equal(loaded[name], tensors[name]).item() for name in tensors)

    for file in shards:
        (part / file).unlink()
    with pytest.raises(ModelProblem) as caught:
        weight_files(part, "diffusion_pytorch_model")
    assert [each.field for each in caught.value.problems] == sorted(shards)


def test_an_index_cannot_point_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../../secret"}}))
    with pytest.raises(ModelProblem, match="outside"):
        weight_files(tmp_path, "model")


def test_a_download_caches_link_is_taken_at_its_word(tmp_path: Path) -> None:
    blob = tmp_path / ("a" * 64)
    blob.write_bytes(b"anything")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert weights_sha256(link) == "a" * 64
    assert weights_sha256(blob) != "a" * 64


def test_the_web_process_can_read_headers_and_the_catalog_without_machine_learning() -> None:
    code = "import sys, core.hub.catalog; print(sorted({'mlx', 'numpy', 'tokenizers'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_written_is_what_others_read(tmp_path: Path) -> None:
    tensors = {
        "a": mx.random.normal((3, 5)),
        "b": mx.random.normal((4, 6)).astype(mx.bfloat16).T,  # does not lie row after row
        "one": mx.array([2.5]),
    }
    path = tmp_path / "x.safetensors"
    contents = contents_of(tensors)
    safetensors_file.write(path, contents, {"format": "pt"})
    found, metadata = mx.load(str(path), return_metadata=True)
    assert metadata == {"format": "pt"}
    assert found.keys() == tensors.keys()
    assert all(found[name].dtype == tensors[name].dtype for name in tensors)
    assert all(mx.array_equal(found[name], tensors[name]) for name in tensors)
    with safe_open(path, framework="np") as other:
        assert set(other.keys()) == tensors.keys()
    assert safetensors_file.holds(path, contents)


def test_a_file_that_is_not_what_was_written_is_told(tmp_path: Path) -> None:
    path, contents = tmp_path / "x.safetensors", contents_of({"a": mx.arange(4, dtype=mx.float32)})
    safetensors_file.write(path, contents, {})
    whole = path.read_bytes()
    assert not safetensors_file.holds(path, contents_of({"a": mx.arange(1, 5, dtype=mx.float32)}))
    assert not safetensors_file.holds(path, contents_of({"b": mx.arange(4, dtype=mx.float32)}))
    for broken in (whole[:-1], whole[:-1] + b"\1", whole + b"\0", b""):
        path.write_bytes(broken)
        assert not safetensors_file.holds(path, contents)

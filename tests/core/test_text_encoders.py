"""Text encoders that stay on the disk: the same features, bit for bit, in the memory of one layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from core.errors import ModelProblem
from core.models.parts import Part, Parts, read_weights
from core.models.text.clip import CLIPText
from core.models.text.encoder import EncoderOnDisk
from core.models.text.qwen3 import Qwen3Encoder
from core.models.text.t5 import T5Encoder
from tests import tiny, tiny_qwen3
from tests.peak import peak

LAYERS, WORDS, WIDTH = 8, 20_000, 256  # of encoders of which a layer is much and a text's activations are little
T5 = tiny.T5 | {
    "vocab_size": WORDS, "d_model": WIDTH, "d_kv": 64, "d_ff": 3 * WIDTH, "num_layers": LAYERS, "num_heads": 4,
}  # fmt: skip
CLIP = tiny.CLIP | {
    "vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "eos_token_id": 1,
}  # fmt: skip
QWEN3 = tiny_qwen3.CONFIG | {
    "vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": LAYERS + 1,
    "num_attention_heads": 4, "head_dim": 64,
}  # fmt: skip
ENCODERS: Mapping[str, tuple[Callable[[Mapping[str, Any]], nn.Module], dict[str, Any]]] = {
    "T5": (T5Encoder, T5),
    "CLIP": (CLIPText, CLIP),
    "Qwen3": (partial(Qwen3Encoder, taps=(0, 3, LAYERS)), QWEN3),
}


def texts(name: str) -> list[tuple[mx.array, ...]]:
    """Ids of three texts, of several lengths where the encoder takes them so; the last has padding."""
    lengths = (16, 5, 11) if name == "Qwen3" else (16, 16, 16)
    ids = [
        mx.array([[(97 * i + 11 * number) % WORDS for i in range(length - 1)] + [1]])
        for number, length in enumerate(lengths)
    ]
    if name != "Qwen3":
        return [(each,) for each in ids]
    return [(each, mx.arange(each.shape[1])[None] < (9 if number == 2 else 99)) for number, each in enumerate(ids)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One part for each encoder; Qwen3 in bfloat16 and in two shards, so that casts and files differ."""
    path = tmp_path_factory.mktemp("encoders")
    for seed, (name, (build, config)) in enumerate(ENCODERS.items()):
        module = build(config)
        tiny.randomize(module, seed)
        if name == "Qwen3":
            module.set_dtype(mx.bfloat16)
        tiny.save_module(module, path / name / "model.safetensors")
        tiny.write_json(path / name / "config.json", config)
    whole = path / "Qwen3" / "model.safetensors"
    tensors, shards = dict(mx.load(str(whole))), ("model-1.safetensors", "model-2.safetensors")
    places = {tensor: shards[index % 2] for index, tensor in enumerate(tensors)}
    for shard in shards:
        mx.save_safetensors(str(whole.with_name(shard)), {key: tensors[key] for key in tensors if places[key] == shard})
    tiny.write_json(whole.with_name("model.safetensors.index.json"), {"weight_map": places})
    whole.unlink()
    return path


def bytes_of(module: nn.Module) -> int:
    """What its parameters take in memory, or would."""
    return sum(value.nbytes for _, value in tree_flatten(module.parameters()))


def on_disk(folder: Path, name: str, dtype: mx.Dtype = mx.float32) -> EncoderOnDisk:
    return Parts(folder, {name: Part(name, ENCODERS[name][0], "model")}, {name: dtype}, on_disk=(name,))[name]


def in_memory(folder: Path, name: str, dtype: mx.Dtype = mx.float32) -> nn.Module:
    build, config = ENCODERS[name]
    module = build(config)
    read_weights(module, sorted((folder / name).glob("*.safetensors")), dtype)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=["float32", "bfloat16"])
def test_features_are_those_of_the_whole_encoder_bit_for_bit(folder: Path, name: str, dtype: mx.Dtype) -> None:
    whole, encoder = in_memory(folder, name, dtype), on_disk(folder, name, dtype)
    for _ in range(2):  # nothing of the first reading is missed by the second
        for text, features in zip(texts(name), encoder.read(texts(name)), strict=True):
            assert features.dtype == dtype
            assert mx.array_equal(features, whole(*text)).item()


@pytest.mark.parametrize("name", ENCODERS)
def test_the_peak_is_a_layer_and_not_the_encoder(folder: Path, name: str) -> None:
    build, config = ENCODERS[name]
    whole = build(config)
    layer = max(bytes_of(block.module) for block in whole.blocks)
    assert bytes_of(whole) > 12 * layer
    with peak() as taken:
        features = on_disk(folder, name).read(texts(name))
    assert layer < taken.over <= 1.5 * layer
    kept = sum(each.nbytes for each in features)
    assert mx.get_active_memory() - taken.held <= kept  # of the encoder nothing stays


def test_a_token_that_the_table_lacks_is_named(folder: Path) -> None:
    with pytest.raises(ModelProblem, match=rf"has {WORDS:,} rows in shared\.weight, and no row {WORDS:,}"):
        on_disk(folder, "T5").read([(mx.array([[3, WORDS]]),)])


def test_a_tensor_that_is_gone_is_named_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    tensors = dict(mx.load(str(folder / "T5" / "model.safetensors")))
    del tensors["encoder.block.7.layer.1.DenseReluDense.wo.weight"]
    (tmp_path / "T5").mkdir()
    mx.save_safetensors(str(tmp_path / "T5" / "model.safetensors"), tensors)
    tiny.write_json(tmp_path / "T5" / "config.json", T5)
    with pytest.raises(ModelProblem, match=r"block\.7\.layer\.1\.DenseReluDense\.wo\.weight: is missing"):
        on_disk(tmp_path, "T5")


def test_an_encoder_whose_file_went_away_meanwhile_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "T5"
    part.mkdir()
    for name in ("model.safetensors", "config.json"):
        (part / name).write_bytes((folder / "T5" / name).read_bytes())
    encoder = on_disk(tmp_path, "T5")
    (part / "model.safetensors").unlink()
    with pytest.raises(ModelProblem, match=r"cannot be read: No such file"):
        encoder.read(texts("T5"))

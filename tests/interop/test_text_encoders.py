"""T5 and CLIP equal transformers', and prompts become the same token ids."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel
from transformers.models.t5.modeling_t5 import T5Attention

from bench.real_models import CLIP_L, T5_XXL
from core.models.text.clip import CLIPText
from core.models.text.t5 import T5Encoder, distance_buckets
from core.models.text.tokenizers import TextTokenizer
from tests import tiny
from tests.interop.reference import TOLERANCE, ours, randomized, relative_error

T5_SMALL = T5_XXL | {"vocab_size": 99, "d_model": 48, "d_kv": 16, "d_ff": 80, "num_layers": 3, "num_heads": 4}
CLIP_SMALL = CLIP_L | {
    "vocab_size": 99, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3,
    "max_position_embeddings": 20,
}  # fmt: skip
PROMPTS = ["a photo of a sks can", "", "Ünïcödé, it's  a DOG's 42 toys!", "word " * 60]


def ids(rows: list[list[int]]) -> tuple[mx.array, torch.Tensor]:
    return mx.array(rows, dtype=mx.int32), torch.tensor(rows)


def test_t5_equals_the_reference(tmp_path: Path) -> None:
    reference = randomized(T5EncoderModel(T5Config(**T5_SMALL)), seed=3)
    reference.save_pretrained(tmp_path)
    rows, expected_rows = ids([[(7 * i + 3 * b) % 99 for i in range(40)] for b in range(2)])
    with torch.no_grad():
        expected = reference(expected_rows)[0]
    encoder = ours(T5Encoder, tmp_path, "model")
    assert relative_error(encoder(rows), expected) <= TOLERANCE


def test_every_distance_falls_into_the_references_bucket() -> None:
    position = torch.arange(512)
    expected = T5Attention._relative_position_bucket(position[None, :] - position[:, None], True, 32, 128)
    assert mx.array_equal(distance_buckets(512, 32, 128), mx.array(expected.tolist())).item()


@pytest.mark.parametrize("end", [2, 98], ids=["older config, highest id ends", "config names the end token"])
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clip_equals_the_reference(tmp_path: Path, end: int, act: str) -> None:
    config = CLIPTextConfig(**CLIP_SMALL | {"eos_token_id": end, "hidden_act": act})
    reference = randomized(CLIPTextModel(config), seed=4)
    reference.save_pretrained(tmp_path)
    rows, expected_rows = ids([[0, *range(3, 12), *[98] * 10], [0, 50, 40, *[98] * 17]])
    with torch.no_grad():
        expected = reference(expected_rows).pooler_output
    encoder = ours(CLIPText, tmp_path, "model")
    assert relative_error(encoder(rows), expected) <= TOLERANCE


def test_a_tokenizer_file_gives_the_references_ids(tmp_path: Path) -> None:
    folder = tiny.make_model_folder(tmp_path)
    for name in ("tokenizer", "tokenizer_2"):
        reference = PreTrainedTokenizerFast.from_pretrained(folder / name)
        expected = reference(PROMPTS, padding="max_length", max_length=tiny.TOKENS, truncation=True).input_ids
        assert TextTokenizer(folder / name, 77)(PROMPTS).tolist() == expected


def test_clips_vocabulary_and_merges_give_the_references_ids(tmp_path: Path) -> None:
    """FLUX.1's tokenizer folder holds vocab.json and merges.txt and no tokenizer.json."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator([*tiny.SENTENCES, *PROMPTS], trainer)
    data = json.loads(trained.to_str())["model"]
    pieces = dict(data["vocab"])
    for piece in [*(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]:
        pieces.setdefault(piece, len(pieces))
    (tmp_path / "vocab.json").write_text(json.dumps(pieces))
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in data["merges"]) + "\n"
    )

    reference = CLIPTokenizer.from_pretrained(tmp_path, model_max_length=20)
    expected = reference(PROMPTS, padding="max_length", max_length=20, truncation=True).input_ids
    assert TextTokenizer(tmp_path, 20)(PROMPTS).tolist() == expected

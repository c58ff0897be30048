"""Pocket is whole, small, and knows its words; its example subject is its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from core.pocket.assets import EXAMPLE_CLASS_WORD, EXAMPLE_TRIGGER, EXAMPLES, WEIGHTS
from core.pocket.backgrounds import PAINTERS, dead_leaves
from core.pocket.bpe import CLIP_END, CLIP_START, LENGTH, T5_END, T5_PAD, VOCABULARY_SIZE, encode
from core.pocket.vocabulary import COLOURS, NAMES, PLACES, THINGS, article, plural

PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2")
CLIP, T5 = (WEIGHTS / name / "tokenizer.json" for name in ("tokenizer", "tokenizer_2"))


def headers() -> dict[str, dict[str, dict[str, object]]]:
    """The safetensors header of every part: tensor name to dtype and shape."""
    found = {}
    for part in PARTS:
        (file,) = (WEIGHTS / part).glob("*.safetensors")
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            found[part] = {k: v for k, v in json.loads(opened.read(size)).items() if k != "__metadata__"}
    return found


def test_the_folder_is_laid_out_as_diffusers_expects() -> None:
    index = json.loads((WEIGHTS / "model_index.json").read_text())
    assert index["_class_name"] == "FluxPipeline"
    for part in (key for key in index if not key.startswith("_")):
        assert (WEIGHTS / part).is_dir(), part
    assert all((WEIGHTS / part / "config.json").is_file() for part in PARTS)


def test_no_config_tells_where_it_was_made() -> None:
    for config in WEIGHTS.rglob("*.json"):
        assert "_name_or_path" not in config.read_text(), config


def test_it_has_at_most_24_million_parameters_in_48_megabytes_of_half_precision() -> None:
    tensors = [tensor for part in headers().values() for tensor in part.values()]
    assert sum(math.prod(tensor["shape"]) for tensor in tensors) <= 24_000_000
    assert {tensor["dtype"] for tensor in tensors} == {"F16"}
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= 48_000_000


def test_it_knows_at_least_200_things_and_each_is_another_character() -> None:
    assert len(NAMES) >= 200
    assert len(set(THINGS.values())) == len(NAMES)
    assert all(name == name.strip().lower() for name in NAMES)


@pytest.mark.parametrize("place", ["beach", "snow", "jungle", "city", "table", "street", "water", "night"])
def test_the_places_that_people_ask_for_can_be_drawn_and_named(place: str) -> None:
    picture = PAINTERS[place](np.random.default_rng(0), 32)
    assert picture.shape == (32, 32, 3)
    assert PLACES[place]


def test_every_place_has_a_painter_and_every_painter_a_phrase() -> None:
    assert set(PAINTERS) == set(PLACES)


def test_the_same_generator_state_paints_the_same_picture() -> None:
    for paint in (*PAINTERS.values(), dead_leaves):
        one, again = (paint(np.random.default_rng(5), 64) for _ in range(2))
        assert np.array_equal(one, again)
        assert one.min() >= -0.2
        assert one.max() <= 1.3


def test_names_take_their_article_and_their_plural() -> None:
    assert [article(name) for name in ("owl", "dog", "unicorn", "fries")] == ["an owl", "a dog", "a unicorn", "fries"]
    assert [plural(name) for name in ("mouse", "fox", "cherry", "fish", "bus")] == [
        "mice", "foxes", "cherries", "fish", "buses",
    ]  # fmt: skip


@pytest.mark.parametrize("file", [CLIP, T5], ids=["clip", "t5"])
def test_every_name_colour_and_place_comes_back_from_its_tokens(file: Path) -> None:
    tokenizer = Tokenizer.from_file(str(file))
    phrases = [*NAMES, *COLOURS, *(phrase for phrases in PLACES.values() for phrase in phrases)]
    for phrase, encoded in zip(phrases, tokenizer.encode_batch(phrases, add_special_tokens=False), strict=True):
        pieces = "".join(encoded.tokens).replace("</w>", " ").strip()
        assert pieces == phrase
        assert len(encoded.ids) <= 14
        assert max(encoded.ids) < VOCABULARY_SIZE


def test_a_word_that_it_never_read_still_has_tokens_and_none_is_unknown() -> None:
    tokenizer = Tokenizer.from_file(str(T5))
    for word in ("sks", "Zürich", "東京", "ohwx42", "🐙"):
        ids = tokenizer.encode(word, add_special_tokens=False).ids
        assert ids
        assert not {T5_PAD, T5_END, CLIP_START, CLIP_END} & set(ids)


def test_texts_are_cut_and_padded_to_the_length_the_encoders_were_trained_at() -> None:
    (short, long) = encode(CLIP, ["a dog", "dog " * 100], CLIP_END)
    assert len(short) == len(long) == LENGTH
    assert short[0] == CLIP_START
    assert short[3:] == [CLIP_END] * (LENGTH - 3)
    assert long[-1] == CLIP_END
    (short, long) = encode(T5, ["a dog", "dog " * 100], T5_PAD)
    assert short[2:] == [T5_END, *[T5_PAD] * (LENGTH - 3)]
    assert long[-1] == T5_END


def test_the_encoders_agree_with_their_tokenizers() -> None:
    clip, t5 = (json.loads((WEIGHTS / part / "config.json").read_text()) for part in ("text_encoder", "text_encoder_2"))
    assert clip["vocab_size"] == t5["vocab_size"] == VOCABULARY_SIZE
    assert clip["eos_token_id"] == CLIP_END
    assert clip["max_position_embeddings"] == LENGTH
    for name in ("tokenizer", "tokenizer_2"):
        assert json.loads((WEIGHTS / name / "tokenizer_config.json").read_text())["model_max_length"] == LENGTH


def test_there_are_eight_example_photos_with_captions_in_one_megabyte() -> None:
    photos = sorted(EXAMPLES.glob("*.jpg"))
    assert len(photos) == 8
    assert sum(file.stat().st_size for file in EXAMPLES.iterdir()) <= 1_000_000
    for photo in photos:
        with Image.open(photo) as opened:
            assert opened.size == (512, 512)
        assert f"{EXAMPLE_TRIGGER} {EXAMPLE_CLASS_WORD}" in photo.with_suffix(".txt").read_text()


def test_the_example_subject_is_nothing_that_pocket_knows() -> None:
    assert EXAMPLE_CLASS_WORD not in NAMES
    assert EXAMPLE_TRIGGER not in NAMES

"""One byte-level BPE of 2,048 entries, saved in the two forms that FLUX.1's text encoders expect.

    tokenizer/    CLIP's form    <|startoftext|> words <|endoftext|> <|endoftext|> ...     padded with the end token
    tokenizer_2/  T5's form      words </s> <pad> <pad> ...

Both split text as CLIP does (lower case, spaces dropped, "</w>" marks the end of a word) and contain all 256 bytes in
both positions, so any text can be encoded. Both are padded to LENGTH tokens.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

VOCABULARY_SIZE, LENGTH = 2048, 32
SPECIAL = ("<pad>", "</s>", "<|startoftext|>", "<|endoftext|>")
T5_PAD, T5_END, CLIP_START, CLIP_END = range(4)
# CLIP_END must not be 2: transformers reads an eos_token_id of 2 as "the highest id in the row".
WORD_END = "</w>"
SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _tokenizer(model: BPE) -> Tokenizer:
    made = Tokenizer(model)
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    return made


def _model(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> BPE:
    return BPE(
        vocab=vocabulary, merges=merges, continuing_subword_prefix="", end_of_word_suffix=WORD_END,
        unk_token=SPECIAL[CLIP_END],
    )  # fmt: skip


def learn(texts: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges) of a BPE learned from `texts`: 4 special tokens, 2 x 256 bytes, merges up to the size."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = _tokenizer(BPE(end_of_word_suffix=WORD_END, continuing_subword_prefix=""))
    learner.train_from_iterator(
        texts,
        BpeTrainer(vocab_size=2 * VOCABULARY_SIZE, initial_alphabet=letters, end_of_word_suffix=WORD_END,
                   show_progress=False),
    )  # fmt: skip
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    words = [*SPECIAL, *letters, *(letter + WORD_END for letter in letters)]
    known, kept = set(words), []
    for pair in merges:
        whole = "".join(pair)
        if len(words) >= VOCABULARY_SIZE:
            break
        kept.append(pair)
        if whole not in known:
            known.add(whole)
            words.append(whole)
    words += [f"<unused {i}>" for i in range(VOCABULARY_SIZE - len(words))]
    return {word: i for i, word in enumerate(words)}, kept


def save(vocabulary: dict[str, int], merges: list[tuple[str, str]], folder: Path) -> None:
    """Write tokenizer/ and tokenizer_2/ into `folder`."""
    clip, t5 = _tokenizer(_model(vocabulary, merges)), _tokenizer(_model(vocabulary, merges))
    start, end, pad = SPECIAL[CLIP_START], SPECIAL[CLIP_END], SPECIAL[T5_PAD]
    clip.post_processor = processors.RobertaProcessing(
        (end, CLIP_END), (start, CLIP_START), trim_offsets=False, add_prefix_space=False
    )
    t5.post_processor = processors.TemplateProcessing(
        single=f"$A {SPECIAL[T5_END]}", special_tokens=[(SPECIAL[T5_END], T5_END)]
    )
    forms = {
        "tokenizer": (clip, {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end},
                      [CLIP_START, CLIP_END], "CLIPTokenizer"),
        "tokenizer_2": (t5, {"eos_token": SPECIAL[T5_END], "pad_token": pad, "unk_token": pad},
                        [T5_PAD, T5_END], "PreTrainedTokenizerFast"),
    }  # fmt: skip
    for name, (made, roles, special, kind) in forms.items():
        made.add_special_tokens([tokenizers.AddedToken(SPECIAL[i], special=True, normalized=False) for i in special])
        (folder / name).mkdir(parents=True, exist_ok=True)
        made.save(str(folder / name / "tokenizer.json"))
        settings = {**roles, "model_max_length": LENGTH, "tokenizer_class": kind, "padding_side": "right",
                    "clean_up_tokenization_spaces": False}  # fmt: skip
        (folder / name / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
        (folder / name / "special_tokens_map.json").write_text(json.dumps(roles, indent=2) + "\n")
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(lines) + "\n")


@functools.cache
def _from_file(file: Path) -> Tokenizer:
    return Tokenizer.from_file(str(file))


def encode(file: Path, texts: list[str], pad: int) -> list[list[int]]:
    """Token ids of each text, cut and padded to LENGTH, as the tokenizers of the pipeline give them."""
    made = _from_file(file)
    made.enable_truncation(LENGTH)
    made.enable_padding(length=LENGTH, pad_id=pad, pad_token=SPECIAL[pad])
    return [encoded.ids for encoded in made.encode_batch(texts)]

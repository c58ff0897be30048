"""Prompts to token ids, with the `tokenizers` library and the files of a model folder.

    [begin] words ... [end] [pad] [pad] ...      always `length` tokens; longer prompts are cut before [end]

CLIP's and Qwen3's tokenizers can be built from vocab.json + merges.txt; T5's needs tokenizer.json. Qwen3 reads a prompt
as a chat message, from `chat_message`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from core.errors import ModelProblem
from core.safetensors_file import read_json

CLIP_BEGIN, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

QWEN3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN3_MARKS = (  # the tokens after those of vocab.json, in the order of their ids
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
)  # fmt: skip


class TextTokenizer:
    """One tokenizer folder; called with prompts, it returns int32 ids (B, N), N = `length`."""

    def __init__(self, folder: Path, length: int) -> None:
        """`length` is the number of tokens; a lower model_max_length of the folder overrides it.

        Raises ModelProblem when the folder has no readable tokenizer.
        """
        added = () if (folder / "tokenizer.json").is_file() else ("added_tokens.json",)
        names = ("tokenizer.json", "vocab.json", "merges.txt", *added)
        self.files = [path for name in names if (path := folder / name).is_file()]
        settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
        limit = settings.get("model_max_length")
        self.length = min(length, int(limit)) if isinstance(limit, int | float) and limit >= 2 else length
        self._tokenizer = _read(folder)
        self._pad = _pad_id(self._tokenizer, folder, settings)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.length)

    def __call__(self, prompts: Sequence[str]) -> mx.array:
        return self.with_padding(prompts)[0]

    def with_padding(self, prompts: Sequence[str]) -> tuple[mx.array, mx.array]:
        """The ids, and which of them are the prompt's own: bool (B, N), False for padding."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(prompts))]
        ids = [row + [self._pad] * (self.length - len(row)) for row in rows]
        lengths = mx.array([len(row) for row in rows])
        return mx.array(ids, dtype=mx.int32), mx.arange(self.length) < lengths[:, None]


def chat_message(prompt: str, thinking: bool) -> str:
    """A chat with the single message `prompt`, in Qwen3's own chat template, up to the beginning of the answer.

    Without `thinking` the answer begins with an empty thought.
    """
    thought = "" if thinking else "<think>\n\n</think>\n\n"
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{thought}"


def _read(folder: Path) -> Tokenizer:
    whole = folder / "tokenizer.json"
    if whole.is_file():
        try:
            return Tokenizer.from_file(str(whole))
        except Exception as error:  # noqa: BLE001  the library raises bare Exception for a file it cannot read
            raise ModelProblem(f"{whole} cannot be read: {error}.") from None
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if vocabulary.is_file() and merges.is_file():
        words = read_json(vocabulary)
        if any(word.endswith("</w>") for word in words):
            return _clip_tokenizer(vocabulary, merges)
        return _qwen3_tokenizer(vocabulary, merges, _marks(folder, len(words)))
    if (folder / "spiece.model").is_file():
        raise ModelProblem(f"{folder} holds only spiece.model. Put the tokenizer.json of the same model beside it.")
    raise ModelProblem(f"{folder} has no tokenizer: tokenizer.json is not there, nor vocab.json with merges.txt.")


def _clip_tokenizer(vocabulary: Path, merges: Path) -> Tokenizer:
    """CLIP's byte-pair encoding: lower case, words end in </w>, the end token stands for unknown words."""
    try:
        model = models.BPE.from_file(
            str(vocabulary), str(merges), unk_token=CLIP_END, end_of_word_suffix="</w>", continuing_subword_prefix=""
        )
    except Exception as error:  # noqa: BLE001  as above
        raise ModelProblem(f"{vocabulary} or {merges.name} cannot be read: {error}.") from None
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    begin, end = tokenizer.token_to_id(CLIP_BEGIN), tokenizer.token_to_id(CLIP_END)
    if begin is None or end is None:
        raise ModelProblem(f"{vocabulary} has no {CLIP_BEGIN} or no {CLIP_END}; it is not CLIP's vocabulary.")
    tokenizer.add_special_tokens([CLIP_BEGIN, CLIP_END])
    tokenizer.post_processor = processors.RobertaProcessing(
        (CLIP_END, end), (CLIP_BEGIN, begin), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer


def _qwen3_tokenizer(vocabulary: Path, merges: Path, marks: Sequence[str]) -> Tokenizer:
    """Qwen3's byte-pair encoding: bytes, in pieces of one word or digit; `marks` follow the vocabulary's ids."""
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # noqa: BLE001  as above
        raise ModelProblem(f"{vocabulary} or {merges.name} cannot be read: {error}.") from None
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN3_WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    return tokenizer


def _marks(folder: Path, words: int) -> Sequence[str]:
    """The tokens after `words` of the vocabulary: of the folder's added_tokens.json, else Qwen3's own."""
    added = folder / "added_tokens.json"
    if not added.is_file():
        return QWEN3_MARKS
    table = read_json(added)
    if sorted(table.values(), key=str) != sorted(range(words, words + len(table)), key=str):
        raise ModelProblem(f"{added} does not number its tokens from {words:,} on, after those of vocab.json.")
    return sorted(table, key=lambda mark: int(table[mark]))


def _pad_id(tokenizer: Tokenizer, folder: Path, settings: dict[str, Any]) -> int:
    """The padding token as the folder names it; CLIP's is its end token."""
    specials = folder / "special_tokens_map.json"
    tables = [settings, read_json(specials) if specials.is_file() else {}]
    named = [table["pad_token"] for table in tables if table.get("pad_token")]
    padding = [tokenizer.padding["pad_token"]] if tokenizer.padding else []
    for token in [*named, *padding, CLIP_END, "<pad>"]:
        found = tokenizer.token_to_id(token["content"] if isinstance(token, dict) else token)
        if found is not None:
            return found
    raise ModelProblem(f"{folder} does not say which token fills up short prompts: name its pad_token.")

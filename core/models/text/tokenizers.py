"""Prompts to token ids, with the `tokenizers` library and the files of a model folder.

    [begin] words ... [end] [pad] [pad] ...      always `length` tokens; longer prompts are cut before [end]

CLIP's tokenizer can be built from vocab.json + merges.txt, the files of FLUX.1's own folder; the others need
tokenizer.json. Qwen3 reads a prompt as a chat message, from `chat_message`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from core.errors import ModelProblem
from core.safetensors_file import read_json

CLIP_BEGIN, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class TextTokenizer:
    """One tokenizer folder; called with prompts, it returns int32 ids (B, N), N = `length`."""

    def __init__(self, folder: Path, length: int) -> None:
        """`length` is the number of tokens; a lower model_max_length of the folder overrides it.

        Raises ModelProblem when the folder has no readable tokenizer.
        """
        self.files = [
            path for name in ("tokenizer.json", "vocab.json", "merges.txt") if (path := folder / name).is_file()
        ]
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
        return _clip_tokenizer(vocabulary, merges)
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

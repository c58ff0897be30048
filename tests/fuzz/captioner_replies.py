"""Bodies that a vision server might answer with: a caption in one line or a CaptionerProblem, nothing else."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from hypothesis import strategies as st

from core.captioners import reply
from core.dataset.captions import CHARACTERS_AT_MOST
from core.errors import CaptionerProblem

MARKS = (
    "<think>", "</think>", "<THINKING>", "</thinking>", "[THINK]", "[/THINK]", "◁think▷", "◁/think▷", "<|channel|>",
    "final<|message|>", "analysis<|message|>", "<|channel>thought", "<channel|>", "<answer>", "<|begin_of_box|>",
    "<|im_end|>", "<|im_start|>assistant\n", "</s>", "<｜end▁of▁sentence｜>", '"', "'", "“", "”", "**",
    "```\n", "\n```", "Caption:", "Here is a caption for the image:\n", "- ", "\n", "I'm sorry, ", "&amp;", "&#0;",
    "\x00", "a red can", " ",
)  # fmt: skip
TEXT = st.lists(st.sampled_from(MARKS) | st.text(st.characters(), max_size=5), max_size=8).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=3,
)
PART = st.fixed_dictionaries({"type": st.sampled_from(["text", "thinking"]), "text": TEXT | JSON})
MESSAGE = st.fixed_dictionaries(
    {"content": TEXT | st.lists(PART, max_size=3) | JSON},
    optional={"reasoning": TEXT | JSON, "reasoning_content": TEXT | JSON},
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={"message": MESSAGE | JSON, "delta": MESSAGE | JSON, "finish_reason": st.sampled_from(["stop", "length"])},
)
ANSWER = st.fixed_dictionaries({}, optional={"choices": st.lists(CHOICE | JSON, max_size=2) | JSON, "error": JSON})


def _encoded(answer: Any, how: str) -> bytes:
    text = json.dumps(answer, ensure_ascii=how == "ascii")
    return text.encode("cp1252" if how == "cp1252" else "utf-8-sig" if how == "bom" else "utf-8", "replace")


def _events(answers: list[Any]) -> bytes:
    return "".join(f"data: {json.dumps(each)}\n\n" for each in answers).encode() + b"data: [DONE]\n\n"


DATA: st.SearchStrategy[bytes] = st.one_of(
    st.builds(_encoded, ANSWER, st.sampled_from(["ascii", "utf-8", "bom", "cp1252"])),
    st.builds(_events, st.lists(ANSWER | JSON, max_size=3)),
    st.binary(max_size=400),
    TEXT.map(lambda text: text.encode("utf-8", "replace")),
)


def check(body: bytes) -> None:
    """One execution."""
    words = reply.failure_in(body)
    assert len(words) <= reply.ERROR_CHARACTERS + 2
    try:
        caption = reply.caption_of(body, 300)
    except CaptionerProblem:
        return
    assert 0 < len(caption) <= CHARACTERS_AT_MOST
    assert caption == " ".join(caption.split())
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in caption)

"""Bodies that a vision server might answer with: a caption in one line or a CaptionerProblem, nothing else."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from core.captioners import reply
from core.dataset.captions import CHARACTERS_AT_MOST
from core.errors import CaptionerProblem
from tests.fuzz.plan import WHOLE, Json, Plan, made_by

MARKS = (
    "<think>", "</think>", "<THINKING>", "</thinking>", "[THINK]", "[/THINK]", "◁think▷", "◁/think▷", "<|channel|>",
    "final<|message|>", "analysis<|message|>", "<|channel>thought", "<channel|>", "<answer>", "<|begin_of_box|>",
    "<|im_end|>", "<|im_start|>assistant\n", "</s>", "<｜end▁of▁sentence｜>", '"', "'", "“", "”", "**",
    "```\n", "\n```", "Caption:", "Here is a caption for the image:\n", "- ", "\n", "I'm sorry, ", "&amp;", "&#0;",
    "\x00", "a red can", " ",
)  # fmt: skip
REASONS = ("stop", "length", None, "tool_calls")


def _text(plan: Plan) -> str:
    pieces = plan.many(8, lambda each: each.text(5) if each.number(3) == 2 else each.one_of(MARKS))
    return "".join(pieces)


def _scalar(plan: Plan) -> Any:
    kind = plan.number(5)
    if kind == 0:
        return _text(plan)
    return plan.float() if kind == 1 else plan.one_of(WHOLE) if kind == 2 else plan.one_of((None, True, False))


JSON = Json(_scalar, lambda plan: plan.text(8))


def _text_or_json(plan: Plan) -> Any:
    return JSON(plan) if plan.rarely(3) else _text(plan)


def _part(plan: Plan) -> dict[str, Any]:
    return {"type": plan.one_of(("text", "thinking")), "text": _text_or_json(plan)}


def _message(plan: Plan) -> Any:
    if plan.rarely(6):
        return JSON(plan)
    content = plan.many(3, _part) if plan.number(3) == 2 else _text_or_json(plan)
    return {"content": content} | plan.chosen({"reasoning": _text_or_json, "reasoning_content": _text_or_json})


def _choice(plan: Plan) -> Any:
    if plan.rarely(6):
        return JSON(plan)
    found = {plan.one_of(("message", "message", "delta")): _message(plan)} if not plan.rarely() else {}
    return found | plan.chosen({"finish_reason": lambda each: each.one_of(REASONS)})


def _answer(plan: Plan) -> dict[str, Any]:
    found = {"choices": JSON(plan) if plan.rarely() else plan.many(2, _choice)} if not plan.rarely() else {}
    return found | ({"error": JSON(plan)} if plan.rarely(4) else {})


def _encoded(answer: Any, how: str) -> bytes:
    text = json.dumps(answer, ensure_ascii=how == "ascii")
    return text.encode("cp1252" if how == "cp1252" else "utf-8-sig" if how == "bom" else "utf-8", "replace")


def _events(answers: list[Any]) -> bytes:
    return "".join(f"data: {json.dumps(each)}\n\n" for each in answers).encode() + b"data: [DONE]\n\n"


def _body(plan: Plan) -> bytes:
    kind = plan.number(8)
    if kind < 4:
        return _encoded(_answer(plan), plan.one_of(("ascii", "utf-8", "bom", "cp1252")))
    if kind < 6:
        return _events(plan.many(3, lambda each: JSON(each) if each.rarely(4) else _answer(each)))
    return _text(plan).encode("utf-8", "replace") if kind == 6 else plan.some_bytes(160)


DATA = made_by(_body, 192)


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

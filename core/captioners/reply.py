"""Read a vision server's answer as a caption.

    body of the HTTP answer -> caption_of -> the caption in one line
    text of the answer      -> clean      -> without thinking, marks, fences, headings and the quotes around it

Servers differ: JSON or server-sent events, text or a list of text parts, an error with the status 200, the thinking in
a field of its own or in the text. The patterns name a model that writes each form. Each takes linear time.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from core.dataset import captions
from core.errors import CaptionerProblem

ERROR_CHARACTERS = 300

_NAMES = "think|thinking|thought|reasoning|seed:think"  # Qwen3, GLM, Seed-OSS
_THINKING = re.compile(  # Magistral, Kimi-VL, Gemma 4
    rf"(?P<open><(?:{_NAMES})>|\[think\]|◁think▷|<\|channel>thought)"
    rf"|</(?:{_NAMES})>|\[/think\]|◁/think▷|<channel\|>",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>(\w{1,20})\b[^<]{0,100}<\|message\|>")  # gpt-oss: analysis, commentary, final
_BOX = re.compile(r"</?answer>|<\|(?:begin|end)_of_box\|>", re.IGNORECASE)  # GLM-4.1V, GLM-4.5V
_MARK = re.compile(  # between turns, from a chat template without a stop word
    r"<\|[\w ]{1,40}\|>|<(?:end_of_turn|start_of_turn|end_of_utterance|eos|bos|/?s)>|<｜[^｜]{1,40}｜>|\[/?INST\]",
    re.IGNORECASE,
)
_ROLE = re.compile(r"\A\s*(?:assistant|model)\s*(?:\n|\Z)", re.IGNORECASE)
_FENCE = re.compile(r"\A```\w*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)
_HEADING = re.compile(
    r"\A(?:[*_#]{0,6}\s*(?:image |photo )?(?:caption|description|answer)(?:\s*:\s*[*_]{0,3}|[*_]{1,3}\s*:)\s*"
    r"|(?:sure|certainly|of course|okay|ok)?[!,.]?\s*here(?:['’]s| is) (?:a|an|the|your)\b[^\n:]{0,80}"
    r"\b(?:caption|description)\b[^\n:]{0,80}:\s+)",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]+", re.MULTILINE)
_REFUSAL = re.compile(
    r"(?:i['’]?m|i am|we['’]re) sorry\b|sorry,|i (?:can['’]?t|cannot|can not|won['’]?t) \w"
    r"|i(?:['’]m| am) (?:unable|not able) to\b|as an ai\b",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»", "「": "」"}
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#39|#x27);")
_TAG = re.compile(r"<[^<>]*>")


class CutOff(CaptionerProblem):
    """The answer ended at its limit of tokens; a second try with a higher limit may help."""


class OnlyThinking(CaptionerProblem):
    """The text holds the model's thinking and no answer."""

    def __init__(self) -> None:
        super().__init__("The model gave its thinking and no caption; choose one that does not think.")


def caption_of(body: bytes, tokens: int) -> str:
    """The caption in the body of a successful answer, which was allowed `tokens` tokens.

    Raises CutOff; CaptionerProblem for an empty answer, a refusal, the server's own error, or no answer at all.
    """
    data = parsed(body)
    if error := error_in(data):
        raise CaptionerProblem(f"The server reports: {error}")
    choice = _first_choice(data)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise CaptionerProblem("The server gave an answer without text. Is it a vision model?")
    cut = choice.get("finish_reason") == "length"
    caption, thinking = "", any(_text(message.get(name)) for name in ("reasoning_content", "reasoning", "thinking"))
    try:
        caption = clean(_text(message.get("content")))
    except OnlyThinking:
        thinking = True
    if cut and thinking and not caption:
        raise CutOff(f"The model spent its {tokens} tokens thinking; choose one that does not think.")
    if cut:
        raise CutOff(f"The answer was cut off at its limit of {tokens} tokens.")
    if not caption and thinking:
        raise OnlyThinking
    if not caption:
        raise CaptionerProblem("The model gave an empty caption. Try another model.")
    return caption


def clean(text: str) -> str:
    """The caption in what a model wrote, in one line; "" where there is none.

    Raises OnlyThinking; CaptionerProblem for a refusal, and for a caption that is too long.
    """
    answer = _without_thinking(text)
    if not answer.strip() and text.strip():
        raise OnlyThinking
    parts = (_ROLE.sub("", part) for part in _MARK.split(_BOX.sub("", answer)))
    answer = printable(next((part for part in parts if part.strip()), "")).strip()
    for _ in range(3):  # a heading before a fence, quotes around the rest
        answer = _unquoted(_HEADING.sub("", _FENCE.sub(r"\1", answer)).strip())
    if len(_BULLET.findall(answer)) > 1:
        answer = ", ".join(_BULLET.sub("", line).strip(" ,;.") for line in answer.splitlines() if line.strip())
    answer = " ".join(_ENTITY.sub(lambda entity: html.unescape(entity[0]), answer).split())
    if _REFUSAL.match(answer):
        raise CaptionerProblem(f"The model declined: {_shortened(answer)}")
    if len(answer) > captions.CHARACTERS_AT_MOST:
        count = f"{len(answer):,} characters; at most {captions.CHARACTERS_AT_MOST:,}"
        raise CaptionerProblem(f"The caption has {count} can be kept. Try another model, or ask for less.")
    return answer if any(c.isalnum() for c in answer) else ""


def parsed(body: bytes) -> Any:
    """The JSON in a body, or in its server-sent events. Raises CaptionerProblem when there is none."""
    text = _decoded(body)
    try:
        if text.lstrip().startswith(("data:", "event:")):
            return _joined([json.loads(line) for line in _event_data(text)])
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CaptionerProblem("The server answered with something that is not JSON. Is the address right?") from None


def error_in(data: Any) -> str:
    """The server's own words in `{"error": ...}`, however nested; "" where there is no error."""
    error = data.get("error") if isinstance(data, dict) else None
    for _ in range(4):
        if not isinstance(error, dict):
            break
        error = next((error[name] for name in ("message", "error", "detail", "code") if error.get(name)), None)
    return _shortened(str(error)) if error and not isinstance(error, dict | list) else ""


def failure_in(body: bytes) -> str:
    """The words in the body of an error status: the server's own message, else the text without HTML tags."""
    try:
        data = parsed(body)
        detail = data.get("detail") if isinstance(data, dict) else None  # FastAPI's form, as mlx-vlm answers
        error = error_in(data) or error_in({"error": detail})
    except CaptionerProblem:
        error = ""
    return error or _shortened(html.unescape(_TAG.sub(" ", _decoded(body[:20_000]))))


def _decoded(body: bytes) -> str:
    """JSON is UTF-8, but some servers put a byte order mark before it or write it in an 8-bit encoding."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("cp1252", "ignore")


def _event_data(text: str) -> list[str]:
    """The data of server-sent events, which some servers send though `stream` is false."""
    lines = [line.removeprefix("data:").strip() for line in text.split("\n") if line.startswith("data:")]
    return [line for line in lines if line and line != "[DONE]"]


def _joined(chunks: list[Any]) -> dict[str, Any]:
    """The chunks of a streamed answer as one whole answer; an error among them counts."""
    texts: dict[str, list[str]] = {}
    finish_reason = None
    for chunk in chunks:
        if error := error_in(chunk):
            return {"error": error}
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        if not choices:
            continue  # the last chunk may hold the usage alone
        choice = _first_choice(chunk)
        delta = choice.get("delta") or choice.get("message")
        for name, value in (delta if isinstance(delta, dict) else {}).items():
            texts.setdefault(name, []).append(_text(value))
        finish_reason = choice.get("finish_reason") or finish_reason
    message = {name: "".join(parts) for name, parts in texts.items()}
    return {"choices": [{"message": message, "finish_reason": finish_reason}]}


def _first_choice(data: Any) -> Mapping[str, Any]:
    choices = data.get("choices") if isinstance(data, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    raise CaptionerProblem("The server gave an answer without text. Is it a vision model?")


def _text(content: Any) -> str:
    """Text as it is; of a list of parts, the texts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _without_thinking(text: str) -> str:
    """What is outside the thinking; the text before a closing mark alone is thinking that the chat template opened."""
    if channels := list(_CHANNEL.finditer(text)):
        text = text[channels[-1].end() :] if channels[-1][1] == "final" else ""
    outside: list[str] = []
    begin: int | None = 0  # of the text outside; None within the thinking
    for mark in _THINKING.finditer(text):
        if mark["open"]:
            outside += [text[begin : mark.start()]] if begin is not None else []
            begin = None
        else:
            outside = [] if begin is not None else outside
            begin = mark.end()
    return " ".join([*outside, text[begin:] if begin is not None else ""])


def _unquoted(text: str) -> str:
    """Without the quotes, or the asterisks of bold text, that are a pair around the whole."""
    for _ in range(4):
        if len(text) > 4 and text.startswith("**") and text.endswith("**") and "**" not in text[2:-2]:
            text = text[2:-2].strip()
            continue
        inside = text[1:-1]
        if len(text) < 2 or _QUOTES.get(text[0]) != text[-1] or {text[0], text[-1]} & set(_APOSTROPHE.sub("", inside)):
            break
        text = inside.strip()
    return text


def printable(text: str) -> str:
    """Without control characters and halves of characters (lone surrogates)."""
    return "".join(c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs"))


def _shortened(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= ERROR_CHARACTERS else f"{line[:ERROR_CHARACTERS].rstrip()} …"

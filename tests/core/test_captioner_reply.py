"""What a vision model answers, as named servers have been seen to: the caption and nothing else is right."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from core.captioners import reply
from core.errors import CaptionerProblem

C = "A red can on a wooden table."


@pytest.mark.parametrize(
    "text",
    [
        C,
        f"<think>I see a can.</think>\n\n{C}",
        f"Okay, the user wants a caption. I see a can.\n</think>\n\n{C}",  # the chat template has opened it
        f"<thinking>I see a can.</thinking>{C}",
        f"<THINK>I see</THINK>{C}",
        f"<think>I see</think><think>again</think>{C}",
        f"[THINK]I see a can.[/THINK]{C}",
        f"◁think▷I see a can.◁/think▷{C}",
        f"<|channel>thought\nI see a can.<channel|>{C}",
        f"<|channel|>analysis<|message|>I see.<|end|><|start|>assistant<|channel|>final<|message|>{C}<|return|>",
        f"<think>I see.</think><answer><|begin_of_box|>{C}<|end_of_box|></answer>",
        f"{C}<|im_end|>",
        f"{C}<|eot_id|>",
        f"{C}<end_of_turn>",
        f"{C}</s>",
        f"{C}<|im_end|>\n<|im_start|>user\nAnd now?",
        f"<|im_start|>assistant\n{C}<|im_end|>",
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{C}",
        f"<start_of_turn>model\n{C}<end_of_turn>",
        f'"{C}"',
        f"“{C}”",
        f"'{C}'",
        f"**{C}**",
        f"**Caption:** {C}",
        f"**Caption**: {C}",
        f"Caption: {C}",
        f"Here is a caption for the image:\n\n{C}",
        f'Sure! Here\'s a short description of the photo:\n\n"{C}"',
        f"```\n{C}\n```",
        f"```text\n{C}\n```",
    ],
)
def test_the_caption_is_left_and_nothing_else(text: str) -> None:
    assert reply.clean(text) == C


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ('A can with the label "COLA"', 'A can with the label "COLA"'),
        ('"COLA" is written on a can', '"COLA" is written on a can'),
        ('"COLA" and "PEPSI"', '"COLA" and "PEPSI"'),
        ("A photo of the dogs'", "A photo of the dogs'"),
        ("'A dog's bone'", "A dog's bone"),
        ("a can 😀", "a can 😀"),
        ("a {trigger} can {x}", "a {trigger} can {x}"),
        ("a can\x00 on a table", "a can on a table"),
        ("a can \ud83d", "a can"),
        ("a can &amp; a table", "a can & a table"),
        ("- a can\n- a table\n- red", "a can, a table, red"),
        ("A red\n can", "A red can"),
        (" \n", ""),
        ("...", ""),
    ],
)
def test_what_belongs_to_the_caption_stays(text: str, caption: str) -> None:
    assert reply.clean(text) == caption


def test_a_refusal_is_no_caption() -> None:
    with pytest.raises(CaptionerProblem, match="declined: I'm sorry, but I can't assist"):
        reply.clean("I'm sorry, but I can't assist with that request.")


def body(content: object, **message: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content, **message}, "finish_reason": "stop"}]}).encode()


EVENTS = (
    'data: {"choices":[{"delta":{"role":"assistant","content":"A red "}}]}\n\n'
    'data: {"choices":[{"delta":{"content":"can."},"finish_reason":"stop"}]}\n\n'
    'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        (body(C), C),
        (body([{"type": "text", "text": C}]), C),
        (body([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": C}]), C),
        (body(C, reasoning_content="I see a can"), C),
        (b"\xef\xbb\xbf" + body(C), C),
        (EVENTS.encode(), "A red can."),
        ('{"choices":[{"message":{"content":"caf\u00e9"}}]}'.encode("latin-1"), "caf\u00e9"),
        (b'{"choices":[{"message":{"content":"a can \\ud83d"}}]}', "a can"),
    ],
)
def test_a_body_is_read_in_every_form(content: bytes, caption: str) -> None:
    assert reply.caption_of(content, 300) == caption


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (body(None, reasoning_content="I see a can"), "its thinking and no caption"),
        (body("<think>only thoughts"), "its thinking and no caption"),
        (body(None), "an empty caption"),
        (b'{"choices":[{"message":null}]}', "without text"),
        (b'{"choices":null}', "without text"),
        (b'data: {"error":{"message":"model crashed"}}\n\n', "The server reports: model crashed"),
        (b"[" * 20_000, "not JSON"),
    ],
)
def test_a_body_without_a_caption_is_a_sentence(content: bytes, words: str) -> None:
    with pytest.raises(CaptionerProblem, match=words):
        reply.caption_of(content, 300)


@pytest.mark.slow
def test_a_megabyte_of_marks_takes_no_time() -> None:
    marks = ("<think>", "</think>", "<|channel|>", "<|channel|>" + "a" * 1000, "\n- ", '"', "**", "<", "Here is a ")
    for mark in marks:
        began = time.process_time()
        with contextlib.suppress(CaptionerProblem):
            reply.clean(mark * (1_000_000 // len(mark)))
        assert time.process_time() - began < 5, mark

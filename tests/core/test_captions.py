"""Captions: as typed beside the photo, else from the template."""

from __future__ import annotations

import pytest

from core.dataset import captions
from core.errors import DataProblem


def test_the_template_is_filled_in() -> None:
    assert captions.fill(captions.TEMPLATE, "sks", "can") == "a photo of sks can"
    assert captions.fill("a photo of {trigger} {class_word}", "sks", "") == "a photo of sks"


@pytest.mark.parametrize("template", ["a {colour} can", "a {trigger", "a } can", "{trigger!r}", "{0}", "{}"])
def test_a_wrong_placeholder_is_a_sentence(template: str) -> None:
    with pytest.raises(DataProblem, match=r"\{trigger\} and \{class_word\} are filled in"):
        captions.fill(template, "sks", "can")


def test_a_trigger_that_cannot_be_left_out_in_earnest_is_said() -> None:
    told = ["a photo of sks can", "a red can"]
    assert captions.dropout_advice(0.5, 0, told, "sks") == ""
    assert captions.dropout_advice(0.0, 4, ["a red can"], "sks") == ""
    assert captions.dropout_advice(0.5, 0, [], "sks") == ""
    opposite = captions.dropout_advice(0.5, 4, told, "sks")
    assert "class pictures teach the opposite: set one of them to 0" in opposite
    nothing = captions.dropout_advice(0.5, 0, ["a  red can ", "tasks, done"], "sks")
    assert nothing == "Trigger dropout does nothing here: no caption has the word 'sks'."
    assert captions.dropout_advice(0.5, 4, ["a red can"], "sks") == f"{opposite} {nothing}"


@pytest.mark.parametrize(
    ("caption", "left"),
    [
        ("a photo of sks can", "a photo of can"),
        ("a photo of Sks, on the beach", "a photo of, on the beach"),
        ("sks, can, red", "can, red"),
        ("can, sks, red", "can, red"),
        ("asks a sks_can", "asks a sks_can"),
        ("sks", ""),
    ],
)
def test_a_caption_without_its_trigger_reads_on(caption: str, left: str) -> None:
    assert captions.without_trigger(caption, "sks") == left


def test_a_trigger_is_no_pattern_and_may_have_several_words() -> None:
    assert captions.without_trigger("a photo of my (c)+ mug", "my (c)+") == "a photo of mug"
    assert captions.without_trigger("a photo of mug", "") == "a photo of mug"


def test_captions_that_lack_the_trigger_are_counted() -> None:
    assert captions.trigger_advice(["a photo of sks can", "SKS, red"], "sks") == ""
    assert captions.trigger_advice([], "sks") == ""
    some = captions.trigger_advice(["a photo of sks can", "a red can", "tasks"], "sks")
    assert some.startswith("2 of 3 captions lack the trigger word 'sks'")
    assert captions.trigger_advice(["sks", "a can"], "sks").startswith("1 of 2 captions lacks the trigger word")
    assert captions.trigger_advice(["a red can"], "sks").startswith("No caption has the trigger word 'sks'")


def test_the_trigger_is_replaced_as_a_word_and_as_no_pattern() -> None:
    assert captions.replace_trigger("Sks can, asks for sks.", "sks", r"\1 zwx") == r"\1 zwx can, asks for \1 zwx."
    assert captions.replace_trigger("my (c)+ mug", "my (c)+", "zwx") == "zwx mug"
    assert captions.replace_trigger("a mug", "", "zwx") == "a mug"

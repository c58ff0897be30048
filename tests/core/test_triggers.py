"""Trigger words: rare, one for each subject."""

from __future__ import annotations

import pytest

from core.dataset.triggers import RARE, suggest


@pytest.mark.parametrize("name", ["Ziggo", "Zyggo", "Kwyjibo", "Zarquon"])
def test_a_rare_name_is_its_own_trigger(name: str) -> None:
    assert suggest(name) == name.lower()


@pytest.mark.parametrize("name", ["", "Miso", "Rex", "Biscuit", "Luna", "Fluffy", "Nana's teapot", "犬", "R2-D2"])
def test_a_common_name_gets_a_rare_word(name: str) -> None:
    assert suggest(name) == RARE[0]


def test_no_two_subjects_get_the_same_word() -> None:
    used: list[str] = []
    for _ in RARE:
        used.append(suggest("Miso", used))
    assert sorted(used) == sorted(RARE)
    assert suggest("Zyggo", ["zyggo"]) in RARE

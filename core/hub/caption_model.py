"""The vision-language model of the built-in captioner: its repository, its sizes, and where it is on this computer.

Its language model is stored with 4 bits a weight and a 16-bit scale and offset for every 64 (4.5 bits in all), its
vision tower with 16. By the same reckoning a 6-bit conversion has 4.1 GB, as its page says. Plain Python, for the web
process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.hub import cache as hub_cache
from core.hub.layout import missing_flat
from core.hub.registry import APACHE, QWEN3_4B, QWEN3_VL_4B, VOCABULARY_BYTES, page_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionModel:
    """A model that describes photos."""

    name: str
    title: str
    repo: str  # on Hugging Face; its files lie at its top
    terms: tuple[str, str]  # the licence, and its terms for commercial use
    download_bytes: int  # to about 1%; the exact size is known once the download begins
    memory_bytes: int  # while it describes a photo of 1024 px
    gated: str = ""

    @property
    def page(self) -> str:
        """Its page on Hugging Face."""
        return page_of(self.repo)

    @property
    def folder(self) -> Path | None:
        """Its complete folder in the hub's cache; None while it is not on this computer."""
        return next((place for place in hub_cache.snapshots(self.repo) if not missing_flat(place)), None)


MODEL = CaptionModel(
    name="qwen3-vl-4b-instruct-4bit",
    title="Qwen3-VL 4B Instruct, 4-bit",
    repo="mlx-community/Qwen3-VL-4B-Instruct-4bit",
    terms=(APACHE[0], "Commercial use is allowed."),
    download_bytes=QWEN3_4B * 9 // 16 + (QWEN3_VL_4B - QWEN3_4B) * 2 + VOCABULARY_BYTES,
    memory_bytes=6_200_000_000,  # others measured 6.13 GB on a Mac, of the same network in 4 bits
)

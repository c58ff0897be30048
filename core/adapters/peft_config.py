"""PEFT's settings of an adapter: the strength that its file does not hold.

    scale = lora_alpha / rank                  with rsLoRA: lora_alpha / sqrt(rank)
    a LoHa's or LoKr's alpha is called alpha; alpha_pattern and rank_pattern have other values for some layers

They are in the file's header (diffusers writes them there), or in adapter_config.json beside the file. A key of a
pattern is the end of a layer's name, or a regular expression for it. Expressions come from strangers, and Python's
engine takes exponential time for some: only those are taken that cannot, few, short, and repeating single characters.

Plain Python, for the web process. Source: PEFT 0.21, LoraConfig and get_pattern_key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import strict_json
from core.adapters.key_maps import DIFFUSERS
from core.errors import AdapterProblem

FILE = "adapter_config.json"
BYTES_AT_MOST = 1_000_000
HEADER_KEY = "lora_adapter_metadata"
_PLAIN = re.compile(r"\^?[\w.\\-]+\$?")
_EXPRESSIONS_AT_MOST, _CHARACTERS_AT_MOST, _REPEATS_AT_MOST = 16, 200, 2

Pattern = tuple[re.Pattern[str], float]


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """The settings that decide a layer's scale."""

    alpha: float
    rank: float | None  # of layers whose tensors do not tell
    alphas: tuple[Pattern, ...]
    ranks: tuple[Pattern, ...]
    rslora: bool

    def scale(self, layer: str, rank: int | None) -> float:
        """The scale of a layer of this rank; None where its tensors do not tell."""
        found = rank or _first(self.ranks, layer, self.rank) or 1.0
        alpha = _first(self.alphas, layer, self.alpha) or 0.0
        return alpha / (math.sqrt(found) if self.rslora else found)


def read(
    path: Path, metadata: Mapping[str, str], name: str, config: str | None = None, *, beside: bool = True
) -> PeftConfig | None:
    """The settings of the adapter file at `path`, which messages call `name`; None without any.

    `config` is the text of adapter_config.json; if None, it is read from beside the file, unless `beside` is False.

    Raises AdapterProblem.
    """
    if metadata.get(HEADER_KEY):
        return parse(metadata[HEADER_KEY], f"{name} has settings of PEFT")
    if config is None and beside and path.with_name(FILE).is_file():
        config = _text(path.with_name(FILE), name)
    return parse(config, f"The {FILE} of {name} has settings") if config and beside else None


def parse(text: str, subject: str) -> PeftConfig:
    """Raises AdapterProblem, beginning with `subject`, for settings that cannot be read."""
    try:
        table = strict_json.loads(text)
        if not isinstance(table, dict):
            raise ValueError("is no table")
        settings = {str(key).removeprefix(DIFFUSERS): value for key, value in table.items()}
        patterns = {key: dict(settings.get(key) or {}) for key in ("alpha_pattern", "rank_pattern")}
    except (ValueError, TypeError):
        raise AdapterProblem(f"{subject} (lora_alpha ...) that cannot be read.") from None
    alpha = _number(settings.get("lora_alpha", settings.get("alpha")))
    rank = _number(settings.get("r"))
    if alpha is None:
        raise AdapterProblem(f"{subject} with a lora_alpha that cannot be read.")
    alphas, ranks = (
        tuple(_pattern(key, value, subject) for key, value in _limited(patterns[which], subject).items())
        for which in ("alpha_pattern", "rank_pattern")
    )
    return PeftConfig(alpha, rank if rank and rank > 0 else None, alphas, ranks, settings.get("use_rslora") is True)


def files_of(path: Path) -> list[Path]:
    """An adapter file, and the settings beside it that count."""
    return [path, *(each for each in [path.with_name(FILE)] if each.is_file())]


def _text(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > BYTES_AT_MOST:
            raise AdapterProblem(f"The {FILE} beside {name} has over {BYTES_AT_MOST:,} bytes; it cannot be PEFT's.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        raise AdapterProblem(f"The {FILE} beside {name} cannot be read.") from None


def _number(value: Any) -> float | None:
    """A finite number that is not negative, or None."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _first(patterns: tuple[Pattern, ...], layer: str, default: float | None) -> float | None:
    return next((value for pattern, value in patterns if pattern.fullmatch(layer)), default)


def _limited(patterns: dict[Any, Any], subject: str) -> dict[str, Any]:
    expressions = [key for key in patterns if not _PLAIN.fullmatch(str(key))]
    if len(expressions) > _EXPRESSIONS_AT_MOST or any(not _is_tame(str(key)) for key in expressions):
        raise AdapterProblem(f"{subject} with patterns that cannot be read: name the layers plainly.")
    return {str(key): value for key, value in patterns.items()}


def _is_tame(expression: str) -> bool:
    """Whether matching it against a name takes no more than a moment."""
    repeats = len(re.findall(r"[*+{]", expression))
    return (
        len(expression) <= _CHARACTERS_AT_MOST
        and repeats <= _REPEATS_AT_MOST
        and not re.search(r"\)[*+{?]|\(\?", expression)
    )


def _pattern(key: str, value: Any, subject: str) -> Pattern:
    number = _number(value)
    try:
        if number is None or not number:
            raise ValueError(key)
        return re.compile(rf"(?:.*\.)?(?:{key})"), number
    except (ValueError, re.error, OverflowError):
        raise AdapterProblem(f"{subject} with an alpha_pattern or rank_pattern that cannot be read.") from None

"""Which of MLX's kernels are right on this computer, and what is used in the place of those that are not.

    uses("norm")              False where the self-test found the kernel wrong: the caller takes its fallback
    has("fused_gradient")     True where the self-test proved an ability that is not taken for granted

core/self_test.py compares each kernel with numpy in float64. Its results belong to one device, system and MLX version,
and to one version of the test; they are kept in the cache folder, so a computer is tested once. The test runs in a
process of its own, before MLX is loaded here: a kernel that kills its process or hangs is found like one that is wrong,
and what replaces a matrix product (another BLAS, MLX_ENABLE_TF32) can only be chosen before MLX is loaded.

LIKENESS_SELFTEST=off skips the test; stored results still count. LIKENESS_FALLBACKS=norm,attention uses the fallbacks
of these kernels whatever the test found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from core import strict_json
from core.device.identity import Identity, cache_folder

VERSION = 1  # of the self-test; a new one tests every computer again
FILE = "self-test.json"
REMEMBERED = 12  # computers, systems and versions


class Kernel(NamedTuple):
    """A kernel that training uses, and its fallback, in words."""

    words: str
    fallback: str
    at_start: bool = False  # the fallback is chosen before MLX is loaded


KERNELS: dict[str, Kernel] = {
    "float32_product": Kernel("products of float32 matrices", "MLX's own library or full precision", at_start=True),
    "product": Kernel("products of 16-bit matrices", "float32 throughout, with twice the memory"),
    "compiled": Kernel("compiled functions", "plain operations"),
    "exponentials": Kernel("sigmoid, silu and gelu", "plain exponentials"),
    "norm": Kernel("layer and RMS normalization", "plain operations"),
    "rotation": Kernel("rotary embedding", "plain operations"),
    "embedding": Kernel("token embedding", "products with one-hot rows"),
    "convolution": Kernel("convolution", "matrix products"),
    "attention": Kernel("attention", "softmax and products, in chunks"),
    "attention_gradient": Kernel("the gradient of attention", "a gradient in chunks"),
    "quantization": Kernel("packing and unpacking of weights", "plain arithmetic"),
    "quantized_product": Kernel("products with quantized weights", "products with unpacked weights"),
}
ABILITIES: dict[str, str] = {
    "fused_gradient": "attention's gradient without a matrix of all scores",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What the self-test found out about one kernel or ability."""

    kernel: str
    right: bool
    error: float | None  # largest difference over the root mean square of the reference; None: it did not finish
    tolerance: float
    fallback_right: bool | None = None  # None: not needed
    seconds: float = 0.0
    note: str = ""  # such as two timings

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(table: Mapping[str, Any]) -> Result:
        """Raises KeyError, TypeError, ValueError for another shape."""
        error, fallback = table["error"], table["fallback_right"]
        return Result(
            str(table["kernel"]),
            bool(table["right"]),
            None if error is None else float(error),
            float(table["tolerance"]),
            None if fallback is None else bool(fallback),
            float(table["seconds"]),
            str(table["note"]),
        )


@dataclass(slots=True)
class _State:
    wrong: frozenset[str] = frozenset()
    proven: frozenset[str] = frozenset()


_state = _State()


def uses(kernel: str) -> bool:
    """Whether MLX's kernel is used; else the caller takes its fallback."""
    return kernel not in _state.wrong


def has(ability: str) -> bool:
    """Whether the self-test proved this ability here."""
    return ability in _state.proven


def activate(results: Iterable[Result]) -> None:
    """Let `uses` and `has` answer by these results."""
    found = list(results)
    requested = os.environ.get("LIKENESS_FALLBACKS", "").split(",")
    wrong = {each.kernel for each in found if each.kernel in KERNELS and not each.right}
    _state.wrong = frozenset(wrong | (KERNELS.keys() & set(requested)))
    _state.proven = frozenset(each.kernel for each in found if each.kernel in ABILITIES and each.right)


@contextmanager
def replaced(*kernels: str, proven: Iterable[str] = ()) -> Iterator[None]:
    """Use the fallbacks of these kernels within the block, and the abilities `proven`."""
    before = _state.wrong, _state.proven
    _state.wrong, _state.proven = before[0] | set(kernels), before[1] | set(proven)
    try:
        yield
    finally:
        _state.wrong, _state.proven = before


def sentences(results: Iterable[Result]) -> list[str]:
    """What people should know of the results: one sentence for each wrong kernel; none when all are right."""
    said = []
    for each in results:
        if each.right or each.kernel not in KERNELS:
            continue
        kernel = KERNELS[each.kernel]
        how = "did not finish" if each.error is None else f"was off by {each.error:.1e}"
        words = f"On this computer MLX's kernel for {kernel.words} {how} in the self-test."
        if each.fallback_right:
            said.append(f"{words} It is replaced by {kernel.fallback}.")
        else:
            said.append(
                f"{words} What would replace it is wrong too, so results cannot be trusted. Update the system and "
                "Likeness, or set LIKENESS_DEVICE=cpu; likeness doctor shows what was measured."
            )
    return said


def recall(identity: Identity) -> list[Result] | None:
    """The stored results for this computer; None when it has not been tested, or the file cannot be read."""
    key = _key(identity)
    for entry in _entries():
        if entry.get("key") == key:
            try:
                return [Result.from_json(each) for each in entry["results"]]
            except (KeyError, TypeError, ValueError):
                return None
    return None


def remember(identity: Identity, results: Iterable[Result]) -> None:
    """Store the results. A cache folder that cannot be written means that the next process tests again."""
    key = _key(identity)
    others = [entry for entry in _entries() if entry.get("key") != key]
    entries = [*others, {"key": key, "results": [each.as_json() for each in results]}][-REMEMBERED:]
    path = _file()
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"tested": entries}, indent=1), encoding="utf-8")
        part.replace(path)


def forget() -> None:
    """Remove all stored results, so that the next process tests again."""
    with suppress(OSError):
        _file().unlink(missing_ok=True)


def _file() -> Path:
    return cache_folder() / FILE


def _key(identity: Identity) -> dict[str, Any]:
    return {**identity.as_json(), "test": VERSION}


def _entries() -> list[dict[str, Any]]:
    try:
        entries = strict_json.loads(_file().read_bytes())["tested"]
        return [entry for entry in entries if isinstance(entry, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []

"""What is known of a photo and of a set, as plain values: no arrays, so that the web process can read and show them.

    Analysis   of one photo, by an analyser; depends on the pixels alone, so it is kept by the photo's hash
    Subject    where the subject is; reconciled over a set, since what recurs in a set is its subject
    Finding    one thing worth a look: its photos, how sure it is, a sentence, and what to do
    Review     the findings of a set, a verdict in one sentence, and counts

Each is turned into JSON by `to_json` and read back by `from_json`; bytes become base64 text.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from core.dataset.crops import Box

Kind = Literal[
    "duplicate", "near_duplicate", "blurred", "dark", "bright", "small", "screenshot",
    "several_subjects", "no_subject", "unlike_the_rest",
    "few_photos", "same_background", "same_framing", "no_close_up", "no_whole",
]  # fmt: skip
Action = Literal["set_aside", "crop", "look"]
OF_THE_SET: frozenset[Kind] = frozenset({"few_photos", "same_background", "same_framing", "no_close_up", "no_whole"})
UNSURE = 0.6  # a finding that is less sure is shown as "unsure", and sets nothing aside


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a photo: its box, in fractions of the upright photo, and its mask."""

    box: Box
    mask: bytes  # an 8-bit grey PNG of some 160 px, to be scaled: 255 subject, 128 background
    sure: float  # 0..1

    def to_json(self) -> dict[str, Any]:
        return {"box": _box_values(self.box), "mask": _text(self.mask), "sure": round(self.sure, 3)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Subject:
        return cls(Box(*value["box"]), _bytes(value["mask"]), float(value["sure"]))


@dataclass(frozen=True, slots=True)
class Analysis:
    """One photo, analysed. `analyser` names the program and its version: another name's results are not comparable."""

    analyser: str
    width: int  # of the upright photo, px
    height: int
    blur: float  # standard deviation of the subject's edges, px at the working size; large is blurred
    lightness: tuple[float, float, float]  # L*, 0..100: the subject's median, the photo's 10th and 98th percentile
    clipped: float  # share of the subject's pixels that are white
    screenshot: float  # 0..1
    subject: Subject | None  # from this photo alone
    others: tuple[Box, ...]  # further subjects
    faces: tuple[Box, ...] | None  # None: this analyser does not look for faces
    salient: bytes  # an 8-bit grey PNG: what stands out in this photo, for the set's joint estimate; may be empty
    look: bytes  # grey values of a square picture, for near-duplicates
    colours: bytes  # the subject's histogram and the background's, for what is alike in a set
    print: bytes = b""  # float32 feature print, where the analyser has one

    def to_json(self) -> dict[str, Any]:
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        value["subject"] = None if self.subject is None else self.subject.to_json()
        value["others"] = [_box_values(box) for box in self.others]
        value["faces"] = None if self.faces is None else [_box_values(box) for box in self.faces]
        for name in ("salient", "look", "colours", "print"):
            value[name] = _text(value[name])
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Analysis:
        """Raises KeyError, TypeError or ValueError for the JSON of something else, or of another version."""
        given = dict(value)
        given["lightness"] = tuple(float(each) for each in value["lightness"])
        given["subject"] = None if value["subject"] is None else Subject.from_json(value["subject"])
        given["others"] = tuple(Box(*each) for each in value["others"])
        given["faces"] = None if value["faces"] is None else tuple(Box(*each) for each in value["faces"])
        for name in ("salient", "look", "colours", "print"):
            given[name] = _bytes(value[name])
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one photo, several, or the whole set. Photos are the caller's numbers."""

    kind: Kind
    photos: tuple[int, ...]  # all that it is about; a near-duplicate names its whole group
    words: str  # a sentence
    action: Action
    sure: float  # 0..1
    keep: int | None = None  # of a group: the photo that stays

    @property
    def of_the_set(self) -> bool:
        return self.kind in OF_THE_SET

    @property
    def unsure(self) -> bool:
        return self.sure < UNSURE

    @property
    def aside(self) -> tuple[int, ...]:
        """The photos that its action would set aside; none where another action fits."""
        return tuple(each for each in self.photos if each != self.keep) if self.action == "set_aside" else ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "photos": list(self.photos), "sure": round(self.sure, 2)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Finding:
        return cls(**{**value, "photos": tuple(value["photos"])})


@dataclass(frozen=True, slots=True)
class Counts:
    """Photos of a set: all, those without a finding that would set them aside, and those that the user set aside."""

    photos: int
    good: int
    aside: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The set in one sentence, and its reasons in a few."""

    title: str
    words: str


@dataclass(frozen=True, slots=True)
class Review:
    """A set, judged."""

    verdict: Verdict
    counts: Counts
    findings: tuple[Finding, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": asdict(self.verdict),
            "counts": asdict(self.counts),
            "findings": [each.to_json() for each in self.findings],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Review:
        findings = tuple(Finding.from_json(each) for each in value["findings"])
        return cls(Verdict(**value["verdict"]), Counts(**value["counts"]), findings)


def _box_values(box: Box) -> list[float]:
    return [round(each, 4) for each in (box.left, box.top, box.right, box.bottom)]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)

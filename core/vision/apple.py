"""The analyser of macOS 14 and later: Apple's Vision finds the foreground, faces, text and a feature print.

It needs `pyobjc-framework-Vision` (pip install "likeness[vision]"). Everything else is measured as elsewhere, so
findings mean the same. Nobody has run it on a Mac yet: the tests put prepared answers in Vision's place.

    photo -> PNG -> ask -> Answers -> the piece of the foreground that is large and near the middle -> Analysis
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from core.dataset.crops import Box
from core.vision import opencv, saliency
from core.vision.pictures import SMALL_SIDE_PX, Floats, Mask, Pixels, box_of, shrunk
from core.vision.results import Analysis
from core.vision.subject import Found

NAMES = ("objc", "Quartz", "Vision")
SURE = 0.95  # of a foreground that Vision found
OTHER_SHARE = 0.25  # of the chosen piece's weight
TEXT_LINES = 4  # from which a flat picture is a screenshot
ASKED_SIDE_PX = 768


@dataclass(frozen=True, slots=True)
class Answers:
    """What Vision says of one photo; boxes in fractions from the upper left."""

    foreground: tuple[Mask, ...]  # one for each thing, of the asked picture's size or smaller
    faces: tuple[Box, ...]
    text_lines: int
    print: bytes  # float32


class AppleAnalyser:
    """See core/vision/base.py."""

    name = "apple-1"

    def __init__(self, ask: Callable[[bytes], Answers] | None = None) -> None:
        self._ask = ask or ask_vision

    def analyse(self, photo_HW3: Pixels, size: tuple[int, int]) -> Analysis:
        """Raises RuntimeError with Vision's words where it refuses a photo."""
        _, png = cv2.imencode(".png", cv2.cvtColor(shrunk(photo_HW3, ASKED_SIDE_PX), cv2.COLOR_RGB2BGR))
        answers = self._ask(png.tobytes())
        small_HW3 = shrunk(photo_HW3, SMALL_SIDE_PX)
        found = _chosen(answers.foreground, (small_HW3.shape[1], small_HW3.shape[0]))
        analysis = opencv.describe(photo_HW3, size, found, self.name)
        lettered = (
            max(analysis.screenshot, 0.6) if answers.text_lines >= TEXT_LINES and analysis.screenshot > 0 else None
        )
        return replace(
            analysis,
            faces=answers.faces,
            print=answers.print,
            screenshot=analysis.screenshot if lettered is None else lettered,
        )


def is_available() -> bool:
    """Whether this is a Mac whose Python has the package."""
    if sys.platform != "darwin":
        return False
    try:
        for name in NAMES:
            importlib.import_module(name)
    except ImportError:
        return False
    return hasattr(importlib.import_module("Vision"), "VNGenerateForegroundInstanceMaskRequest")


def ask_vision(png: bytes) -> Answers:
    """All four requests in one pass over the picture."""
    vision, quartz, objc = (importlib.import_module(name) for name in ("Vision", "Quartz", "objc"))
    with objc.autorelease_pool():
        handler = vision.VNImageRequestHandler.alloc().initWithData_options_(png, None)
        foreground = vision.VNGenerateForegroundInstanceMaskRequest.alloc().init()
        faces = vision.VNDetectFaceRectanglesRequest.alloc().init()
        text = vision.VNRecognizeTextRequest.alloc().init()
        text.setRecognitionLevel_(vision.VNRequestTextRecognitionLevelFast)
        feature = vision.VNGenerateImageFeaturePrintRequest.alloc().init()
        done, error = handler.performRequests_error_([foreground, faces, text, feature], None)
        if not done:
            raise RuntimeError(f"Vision: {error.localizedDescription()}")
        prints = list(feature.results() or ())
        return Answers(
            tuple(_masks(quartz, handler, foreground.results() or ())),
            tuple(_upright(each.boundingBox()) for each in faces.results() or ()),
            len(text.results() or ()),
            bytes(prints[0].data()) if prints else b"",
        )


def _masks(quartz: Any, handler: Any, observations: Any) -> list[Mask]:
    """One mask for each instance of the foreground."""
    found = []
    foundation = importlib.import_module("Foundation")
    for each in observations:
        instances, index = each.allInstances(), each.allInstances().firstIndex()
        while index != foundation.NSNotFound:
            one = foundation.NSIndexSet.indexSetWithIndex_(index)
            buffer, error = each.generateScaledMaskForImageForInstances_fromRequestHandler_error_(one, handler, None)
            if buffer is None:
                raise RuntimeError(f"Vision: {error.localizedDescription()}")
            found.append(np.asarray(_floats(quartz, buffer) > 0.5, np.bool_))
            index = instances.indexGreaterThanIndex_(index)
    return found


def _floats(quartz: Any, buffer: Any) -> Floats:
    """The values of a CVPixelBuffer of one float32 component."""
    quartz.CVPixelBufferLockBaseAddress(buffer, quartz.kCVPixelBufferLock_ReadOnly)
    try:
        height, width = quartz.CVPixelBufferGetHeight(buffer), quartz.CVPixelBufferGetWidth(buffer)
        stride = quartz.CVPixelBufferGetBytesPerRow(buffer)
        content = quartz.CVPixelBufferGetBaseAddress(buffer).as_buffer(stride * height)
        return np.frombuffer(bytes(content), np.float32).reshape(height, stride // 4)[:, :width]
    finally:
        quartz.CVPixelBufferUnlockBaseAddress(buffer, quartz.kCVPixelBufferLock_ReadOnly)


def _upright(rect: Any) -> Box:
    """Vision counts from the lower left."""
    left, top = rect.origin.x, 1 - rect.origin.y - rect.size.height
    right, bottom = left + rect.size.width, top + rect.size.height
    return Box(max(left, 0.0), max(top, 0.0), min(right, 1.0), min(bottom, 1.0))


def _chosen(foreground: tuple[Mask, ...], size: tuple[int, int]) -> Found | None:
    """The piece that is the largest once the middle counts more, at `size` (width, height); the others beside it."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    place = np.stack([(columns.ravel() + 0.5) / width, (rows.ravel() + 0.5) / height], 1).astype(np.float32)
    prior_HW = saliency.centre_prior(place).reshape(height, width)
    masks = [
        np.asarray(cv2.resize(each.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0, np.bool_)
        for each in foreground
    ]
    weighed = sorted(((float(prior_HW[each].sum()), i) for i, each in enumerate(masks)), reverse=True)
    if not weighed or weighed[0][0] <= 0:
        return None
    best = masks[weighed[0][1]]
    box = box_of(best)
    if box is None:
        return None
    near = [masks[i] for weight, i in weighed[1:] if weight >= OTHER_SHARE * weighed[0][0]]
    return Found(best, box, tuple(each for mask in near if (each := box_of(mask)) is not None), SURE)

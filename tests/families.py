"""A tiny model folder of every family, for tests that hold each of them to the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests import tiny, tiny_chroma, tiny_flux3, tiny_klein, tiny_z_image

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "flux1": lambda path: tiny.make_model_folder(path, guidance=True),
    "flux2": tiny_klein.make_model_folder,
    "z_image": tiny_z_image.make_model_folder,
    "chroma": tiny_chroma.make_model_folder,
    "flux3": tiny_flux3.make_model_folder,
}

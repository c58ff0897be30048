"""Folders and files of weights that are no model which Likeness reads: in sentences, when a person names them.

Plain Python: the settings check a folder when it is named, the command line a --model.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from core.hub.layout import index_of, missing_files
from core.weights.forms import INSTEAD, trouble_of_file

SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
LOOKED_AT_MOST, FILES_AT_MOST = 5000, 64  # entries of a folder, and files of weights that are looked into
SINGLE_FILE = "Name ComfyUI's folder in the settings; the Models page then makes a model of its files."


def trouble_of_folder(folder: Path) -> str:
    """Why a folder holds no model that can be read, though it holds weights: a sentence without its full stop, or "".

    A folder with a model among others is fine: what is wrong with the others is shown with each.
    """
    try:
        models = [folder] if index_of(folder) else [each for each in sorted(folder.iterdir()) if index_of(each)]
        inside = [] if models else sorted(islice(folder.rglob("*"), LOOKED_AT_MOST))
    except OSError:
        return ""
    if models:
        found = [_trouble_of_model(each) for each in models]
        return found[0] if all(found) else ""
    files = [each for each in inside if each.suffix.lower() in SUFFIXES][:FILES_AT_MOST]
    troubles = ((each, trouble_of_file(each)) for each in files)
    return next((f"{each} {words}" for each, words in troubles if INSTEAD in words), "")


def words_for(path: Path) -> str:
    """A sentence about a path that is no model folder and yet holds weights; "" for any other."""
    if path.is_file():
        words = trouble_of_file(path)
        return f"{path} {words}." if words else f"{path} is a single file. {SINGLE_FILE}"
    words = trouble_of_folder(path) if path.is_dir() else ""
    return f"{words}." if words else ""


def _trouble_of_model(folder: Path) -> str:
    found = (f"{folder / each.field} {each.message}" for each in missing_files(folder) if INSTEAD in each.message)
    return next(found, "")

"""One tiny model for all tests of a session, loaded anew for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.models.base import Family
from core.models.load import load_family
from tests.core.subjects import photo_folder
from tests.tiny import make_model_folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def family(model_folder: Path) -> Family:
    return load_family(model_folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos")

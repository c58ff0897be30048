"""The model of the built-in captioner: which files of its repository are fetched, and when its folder is complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from core.errors import DownloadProblem
from core.hub import download
from core.hub.caption_model import MODEL
from core.hub.layout import missing_flat
from tests.hub import Hub, running_hub
from tests.mlx_vlm import make_repository

NEEDED = {
    "config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    "model.safetensors",
}  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub({MODEL.repo: make_repository(tmp_path / "repository")}) as one:
        monkeypatch.setattr(constants, "ENDPOINT", one.url)  # both were read from HF_ENDPOINT at import
        address = f"{one.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        yield one


def test_what_loading_needs_is_fetched_and_no_code(hub: Hub) -> None:
    assert MODEL.folder is None
    *_, last = download.download_flat(MODEL, MODEL.repo)
    assert MODEL.folder is not None
    assert {path.name for path in MODEL.folder.iterdir()} == NEEDED
    assert last.done == last.of == hub.total(MODEL.repo, list(NEEDED))


def test_a_repository_that_lacks_something_is_a_sentence(hub: Hub) -> None:
    (hub.repositories[MODEL.repo] / "preprocessor_config.json").unlink()
    with pytest.raises(DownloadProblem, match="does not contain a complete model") as caught:
        list(download.download_flat(MODEL, MODEL.repo))
    assert [each.field for each in caught.value.problems] == ["preprocessor_config.json"]
    assert MODEL.folder is None


def test_a_folder_says_what_it_lacks(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "model")
    assert missing_flat(folder) == []
    (folder / "tokenizer.json").unlink()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert {each.field for each in missing_flat(folder)} == {"tokenizer.json", "model.safetensors"}
    weights.unlink()
    assert {each.field for each in missing_flat(folder)} == {"tokenizer.json", "model.safetensors"}


def test_its_size_follows_from_its_precision() -> None:
    assert MODEL.download_bytes == pytest.approx(3.1e9, rel=0.01)

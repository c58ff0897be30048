"""Downloads against a local server that speaks the hub's protocol, through the hub's real client."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download

from core.errors import DiskProblem, DownloadProblem, GatedProblem, ModelProblem
from core.hub import cache as hub_cache
from core.hub import catalog, download
from core.hub.layout import is_needed, missing_files, parts_of
from core.hub.registry import KNOWN
from core.models.load import load_family
from core.safetensors_file import read_json
from tests import tiny_flux3
from tests.hub import NEEDLESS, TOKEN, Hub, add_turbo, make_repository, running_hub

pytestmark = pytest.mark.slow

KREA, DEV, TURBO = KNOWN["flux1-krea-dev"], KNOWN["flux1-dev"], KNOWN["z-image-turbo"]
LARGEST = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, and a cache of this test's own."""
    with running_hub({KREA.repo: repository, DEV.repo: repository}) as one:
        monkeypatch.setattr(constants, "ENDPOINT", one.url)  # both were read from HF_ENDPOINT at import
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{one.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(download, "WAITS_SECONDS", (0.0, 0.0, 0.0, 0.0))
        yield one


def run(known: object = KREA) -> list[download.Progress]:
    return list(download.download(known))  # type: ignore[arg-type]


def blob_bytes() -> int:
    return hub_cache.bytes_here(KREA.repo)


def test_a_model_arrives_whole_with_nothing_that_it_does_not_need(hub: Hub, repository: Path) -> None:
    progress = run()
    entry = catalog.find("flux1-krea-dev")
    assert entry.folder is not None
    files = {path.relative_to(entry.folder).as_posix() for path in entry.folder.rglob("*") if path.is_file()}
    assert files == set(hub.files(KREA.repo)) - NEEDLESS
    assert all((entry.folder / name).read_bytes() == (repository / name).read_bytes() for name in files)
    total = hub.total(KREA.repo, list(files))
    assert (progress[-1].done, progress[-1].of) == (total, total)
    counted = [each.done for each in progress if each.name == "downloading"]
    assert counted == sorted(counted)
    assert len(set(counted)) > len(files), "progress is by bytes, not by files"
    assert load_family(entry.folder).transformer is not None


def test_other_programs_find_it_in_the_shared_cache(hub: Hub) -> None:
    run()
    found = snapshot_download(KREA.repo, cache_dir=hub_cache.root(), local_files_only=True)
    assert Path(found) == catalog.find("flux1-krea-dev").folder
    assert Path(constants.HF_HOME) / "hub" == Path(constants.default_cache_path), "as core/hub/cache.py reckons"


def test_what_is_here_already_is_not_fetched_again(hub: Hub) -> None:
    run()
    hub.asked.clear()
    assert run()[-1].done == hub.total(KREA.repo, list(set(hub.files(KREA.repo)) - NEEDLESS))
    assert [each for each in hub.asked if "/resolve/" in each.path or "sha256" in each.path] == []


def test_a_cut_connection_goes_on_where_it_ended(hub: Hub, repository: Path) -> None:
    hub.cut_at[LARGEST] = [100_000, 200_001]
    run()
    assert catalog.find("flux1-krea-dev").on_disk
    begins = [each.begin for each in hub.asked if "sha256" in each.path and LARGEST in each.path]
    assert begins == [0, 100_000, 200_001]
    assert hub.sent[LARGEST] == (repository / LARGEST).stat().st_size, "no byte was sent twice"


def test_a_download_that_was_left_goes_on_in_the_next_one(hub: Hub, repository: Path) -> None:
    hub.dead_at[LARGEST] = 100_000
    with pytest.raises(DownloadProblem, match=r"connection .* was lost\. Try again to continue"):
        run()
    entry = catalog.models()["flux1-krea-dev"]
    assert not entry.on_disk
    with pytest.raises(ModelProblem, match=r"incomplete: "):
        catalog.find("flux1-krea-dev")
    hub.dead_at.clear()
    progress = run()
    assert any(each.name == "checking what is here already" for each in progress)
    assert hub.sent[LARGEST] == (repository / LARGEST).stat().st_size
    assert catalog.find("flux1-krea-dev").on_disk


def test_a_server_that_knows_no_ranges_sends_it_all_again(hub: Hub) -> None:
    hub.whole_only = True
    hub.cut_at[LARGEST] = [100_000]
    run()
    assert catalog.find("flux1-krea-dev").on_disk


def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    hub.busy = 3
    run()
    assert catalog.find("flux1-krea-dev").on_disk
    hub.busy = 100
    with pytest.raises(DownloadProblem, match=r"error \(503\)"):
        run(DEV)


@pytest.mark.parametrize("name", [LARGEST, "vae/config.json"])
def test_a_damaged_file_is_thrown_away_and_said(hub: Hub, name: str) -> None:
    hub.damaged.add(name)
    with pytest.raises(DownloadProblem, match="arrived damaged: its hash is"):
        run()
    assert not catalog.models()["flux1-krea-dev"].on_disk
    assert list(hub_cache.folder(KREA.repo).rglob("*.incomplete")) == []
    hub.damaged.clear()
    run()
    assert catalog.find("flux1-krea-dev").on_disk


def test_a_gated_model_says_what_to_accept_and_where_the_token_goes(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add(DEV.repo)
    with pytest.raises(GatedProblem) as nobody:
        run(DEV)
    for words in (f"{hub.url}/{DEV.repo}", DEV.gated, "hf auth login", "HF_TOKEN"):
        assert words in nobody.value.message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(GatedProblem, match="account of your token has no access") as stranger:
        run(DEV)
    assert TOKEN not in str(stranger.value)
    assert not catalog.models()["flux1-dev"].on_disk
    hub.welcome.add(TOKEN)
    run(DEV)
    assert catalog.find("flux1-dev").on_disk


def test_the_token_goes_to_the_hub_and_never_to_its_store(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    hub.gated.add(DEV.repo)
    hub.welcome.add(TOKEN)
    run(DEV)
    store = [each for each in hub.asked if "sha256=" in each.path]
    assert store
    assert {each.authorization for each in store} == {None}
    assert {each.authorization for each in hub.asked if "/resolve/" in each.path} == {f"Bearer {TOKEN}"}


def test_a_token_that_is_none_is_said_and_not_shown(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_two words")
    with pytest.raises(DownloadProblem, match="Your Hugging Face token is malformed") as problem:
        run()
    assert "hf_two" not in str(problem.value)


def test_a_repository_or_a_file_that_is_not_there(hub: Hub) -> None:
    with pytest.raises(DownloadProblem, match=f"{hub.url}/Tongyi-MAI/Z-Image does not exist"):
        run(KNOWN["z-image"])
    hub.vanished.add("vae/config.json")
    with pytest.raises(DownloadProblem, match="lists is missing"):
        run()
    assert not catalog.models()["flux1-krea-dev"].on_disk


def test_hashes_that_are_none_name_no_file(hub: Hub, tmp_path: Path) -> None:
    hub.revision = "../../elsewhere"
    with pytest.raises(DownloadProblem, match="sent malformed hashes"):
        run()
    assert not (tmp_path / "cache").exists()


def test_a_page_in_place_of_the_hub_is_a_sentence(hub: Hub) -> None:
    hub.portal = True
    with pytest.raises(DownloadProblem, match="does not answer like Hugging Face"):
        run()


def test_no_room_is_said_before_anything_large_is_fetched(hub: Hub) -> None:
    hub.claimed[LARGEST] = 10**16
    with pytest.raises(DiskProblem, match=r"FLUX\.1 Krea dev needs 10000 TB more .* are free in") as problem:
        run()
    assert "HF_HOME" in problem.value.message
    assert sum(hub.sent.values()) < 1000, "only the model's index has come"


def test_nobody_there_is_a_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadProblem, match=r"connection to http://127\.0\.0\.1:9 was lost"):
        run()


def test_a_repository_that_lacks_a_shard_is_no_model(hub: Hub, tmp_path: Path) -> None:
    broken = make_repository(tmp_path / "broken")
    (broken / LARGEST).unlink()
    hub.repositories[KREA.repo] = broken
    with pytest.raises(DownloadProblem, match="does not contain a complete model") as problem:
        run()
    assert [each.field for each in problem.value.problems] == [LARGEST]
    assert not catalog.models()["flux1-krea-dev"].on_disk


def test_only_files_of_the_parts_are_needed(repository: Path) -> None:
    parts = parts_of(read_json(repository / "model_index.json"))
    wanted = {"model_index.json", "vae/config.json", "tokenizer/merges.txt", "tokenizer_2/spiece.model", LARGEST}
    needless = {
        "ae.safetensors", "model.safetensors", "vae/model.fp16.safetensors", "transformer/model.bin", "x/config.json",
        "text_encoder/pytorch_model.bin.index.json", "vae/flax_model.msgpack", "transformer/a/config.json",
    }  # fmt: skip
    assert {name for name in wanted | needless if is_needed(name, parts)} == wanted
    assert missing_files(repository) == []


def test_a_model_with_a_modular_index_is_downloaded_whole(hub: Hub, tmp_path: Path) -> None:
    klein, folder = KNOWN["flux3-klein-base"], tiny_flux3.make_model_folder(tmp_path / "repository")
    for name in ("likeness.json", "README.md", "flux-3-image-klein-base.safetensors"):
        (folder / name).write_text("not needed")
    hub.repositories[klein.repo] = folder
    run(klein)
    entry = catalog.find("flux3-klein-base")
    assert entry.family == load_family(entry.path).name == "flux3"
    got = {each.path.rpartition("/resolve/")[2].partition("/")[2] for each in hub.asked if "/resolve/" in each.path}
    assert got == {name for name in hub.files(klein.repo) if name == "modular_model_index.json" or "/" in name}


def test_a_training_assistant_comes_after_its_model_and_is_used(hub: Hub, tmp_path: Path) -> None:
    add_turbo(hub, TURBO, tmp_path / "repositories")
    progress = run(TURBO)
    entry = catalog.find("z-image-turbo")
    assert entry.folder is not None
    assert not entry.lacks_assistant
    assert TURBO.assistant is not None
    sizes = [
        path.stat().st_size for path in hub.files(TURBO.assistant.repo).values() if path.name == TURBO.assistant.name
    ]
    assert [progress[-1].done, progress[-1].of] == sizes * 2
    found = load_family(entry.folder).assistant
    assert found == hub_cache.file(TURBO.assistant.repo, TURBO.assistant.name)
    assert not [each for each in hub.asked if each.path.endswith("README.md")]

    own = tmp_path / "own.safetensors"
    own.write_bytes(found.read_bytes())
    copy = tmp_path / "copy"
    shutil.copytree(entry.folder, copy)
    shutil.copy(own, copy)
    (copy / "likeness.json").write_text('{"assistant": "own.safetensors"}')
    assert catalog.assistant_of(copy) == copy / own.name, "what a folder names itself comes first"


def test_an_assistant_is_fetched_alone_for_a_model_that_is_here(hub: Hub, tmp_path: Path) -> None:
    add_turbo(hub, TURBO, tmp_path / "repositories")
    assert TURBO.assistant is not None
    hub.vanished.add(TURBO.assistant.name)
    with pytest.raises(DownloadProblem, match=rf"A file that .*{TURBO.assistant.repo} lists is missing"):
        run(TURBO)
    entry = catalog.find("z-image-turbo")  # the model itself is whole
    assert entry.lacks_assistant
    hub.vanished.clear()
    hub.asked.clear()
    list(download.download(TURBO, assistant_alone=True))
    assert not catalog.find("z-image-turbo").lacks_assistant
    assert all(TURBO.assistant.repo in each.path for each in hub.asked)


def test_an_assistant_that_its_repository_has_lost_is_a_sentence(hub: Hub, tmp_path: Path) -> None:
    add_turbo(hub, TURBO, tmp_path / "repositories")
    assert TURBO.assistant is not None
    (hub.repositories[TURBO.assistant.repo] / TURBO.assistant.name).unlink()
    with pytest.raises(DownloadProblem, match=r"no longer has .*, the training assistant of Z-Image Turbo"):
        run(TURBO)

"""Which models are known, where they are looked for, and that what is not whole is never taken for a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.adapters import key_maps, layers
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.errors import ModelProblem
from core.estimate import memory
from core.estimate.architecture import Architecture
from core.files import write_json
from core.hub import cache as hub_cache
from core.hub import catalog
from core.hub.families import FAMILIES
from core.hub.layout import missing_files
from core.hub.registry import KNOWN
from core.models.load import class_of
from tests.hub import make_repository

SCHNELL = KNOWN["flux1-schnell"]
SHARD = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def in_cache(repository: Path, revision: str = "abc", *, main: bool = True) -> Path:
    """The repository as the hub's client leaves it: blobs, and a snapshot of links to them."""
    place = hub_cache.folder(SCHNELL.repo)
    snapshot = place / "snapshots" / revision
    (place / "blobs").mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(path for path in sorted(repository.rglob("*")) if path.is_file()):
        blob, link = place / "blobs" / f"{revision}{number}", snapshot / path.relative_to(repository)
        shutil.copy(path, blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    if main:
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(revision)
    return snapshot


def test_a_family_is_a_card_a_network_its_layers_and_their_names_elsewhere() -> None:
    assert FAMILIES.keys() == layers.FAMILIES.keys() == layers.PRESETS.keys() == key_maps.FAMILIES.keys()
    assert key_maps.TITLES.keys() == key_maps.FAMILIES.keys()
    for name, card in FAMILIES.items():
        family = class_of(name)
        assert family.name == name
        assert all(catalog.PIPELINES[pipeline] == name for pipeline in card.pipelines)
        presets = {path for table in layers.PRESETS[name].values() for path in table}
        assert {path for path in presets if not path.rpartition(".")[2].isdecimal()} <= set(family.stacks)
    for known in KNOWN.values():
        architecture = Architecture.of_known(known)
        blocks = {f"{architecture.family} {stack.kind}" for stack in architecture.stacks}
        assert blocks <= memory.CPU.activations.keys() & memory.GPU.activations.keys()


@pytest.mark.parametrize("known", KNOWN.values(), ids=lambda known: known.name)
def test_every_known_model_says_all_that_a_page_shows(known: catalog.KnownModel) -> None:
    assert known.repo.count("/") == 1
    assert known.parameters.keys() >= {"transformer", "text_encoder", "vae"}
    assert 2 * sum(known.parameters.values()) < known.download_bytes < 50e9
    licence, commercial = known.terms
    assert licence
    assert commercial.endswith(".")
    assert bool(known.gated) == (known.repo.startswith("black-forest-labs/") and "-4B" not in known.repo)
    assert known.drawing.keys() == {"steps", "guidance", "side_px"}
    resolve(known.defaults)


def test_klein_is_trained_on_its_base_and_drawn_with_distilled() -> None:
    for size in ("4b", "9b"):
        base, distilled = KNOWN[f"flux2-klein-base-{size}"], KNOWN[f"flux2-klein-{size}"]
        assert (base.trains, base.draws_with, distilled.trains) == (True, distilled.name, False)
        assert (base.drawing["steps"], distilled.drawing["steps"], distilled.drawing["guidance"]) == (50, 4, 1.0)
        assert catalog.adapters_fit(base.name, distilled.name)
        assert not catalog.adapters_fit(distilled.name, base.name)
    assert not catalog.adapters_fit("flux2-klein-base-4b", "flux2-klein-9b")


def test_flux1_is_trained_with_guidance_one() -> None:
    assert KNOWN["flux1-dev"].defaults["train_guidance"] == 1.0
    assert catalog.models()["flux1-dev"].defaults["sample_guidance"] == 3.5


def test_a_model_in_the_hubs_cache_is_found(repository: Path) -> None:
    snapshot = in_cache(repository)
    entry = catalog.find("flux1-schnell")
    assert (entry.folder, entry.title, entry.usable) == (snapshot, "FLUX.1 schnell", True)
    assert entry.parameters == SCHNELL.parameters["transformer"]


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "{home}/a"}, "a"),
        ({"HF_HOME": "{home}/b"}, "b/hub"),
        ({"XDG_CACHE_HOME": "{home}/c"}, "c/huggingface/hub"),
        ({"HOME": "{home}"}, ".cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_hubs_client_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str
) -> None:
    import os
    import subprocess
    import sys

    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    assert hub_cache.root() == tmp_path / place
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert theirs.stdout.strip() == str(tmp_path / place)


def test_an_older_whole_revision_serves_while_the_newest_is_not_whole(repository: Path) -> None:
    whole = in_cache(repository, "old", main=False)
    newest = in_cache(repository, "new")
    (newest / SHARD).unlink()
    assert catalog.find("flux1-schnell").folder == whole
    shutil.rmtree(whole)
    entry = catalog.models()["flux1-schnell"]
    assert (entry.folder, entry.on_disk) == (newest, False)
    with pytest.raises(ModelProblem, match=r"incomplete: transformer/diffusion_pytorch_model-00002\S* is not there"):
        catalog.find("flux1-schnell")


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json", SHARD, "transformer/diffusion_pytorch_model.safetensors.index.json", "vae/config.json",
        "text_encoder/model.safetensors", "tokenizer_2/tokenizer.json", "scheduler/scheduler_config.json",
    ],
)  # fmt: skip
def test_every_missing_file_is_named(repository: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(repository, tmp_path / "models" / "mine")
    (folder / name).unlink()
    fields = [each.field for each in missing_files(folder)]
    assert fields == [name.removesuffix(".index.json")]
    assert [each.name for each in catalog.models([tmp_path / "models"]).values() if each.on_disk] == ["pocket"]


def test_a_file_that_is_cut_off_or_a_dangling_link_is_no_file(repository: Path) -> None:
    snapshot = in_cache(repository)
    blob = (snapshot / SHARD).resolve()
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1])
    assert [(each.field, each.message) for each in catalog.models()["flux1-schnell"].missing] == [
        (SHARD, f"is damaged or cut off at {len(whole) - 1:,} bytes")
    ]
    blob.unlink()
    assert [each.message for each in catalog.models()["flux1-schnell"].missing] == ["is not there"]
    blob.write_bytes(whole)
    assert catalog.find("flux1-schnell").usable


def test_a_folder_under_a_known_name_is_that_model_and_others_are_the_users_own(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, other = tmp_path / "models", tmp_path / "other"
    shutil.copytree(repository, models / "FLUX.1-schnell")
    shutil.copytree(repository, models / "z-image")  # another kind than its name says
    shutil.copytree(repository, other)
    monkeypatch.setenv("LIKENESS_MODELS", str(models))
    found = catalog.models([other, tmp_path / "nowhere"])
    assert found["flux1-schnell"].folder == models / "FLUX.1-schnell"
    assert found["other"].folder == other
    assert "FLUX.1-schnell" not in found
    assert found["z-image"].folder is None
    assert list(found)[:2] == ["pocket", "flux2-klein-base-4b"]


@pytest.mark.parametrize(
    ("index", "other", "like"),
    [
        ({"_class_name": "FluxPipeline"}, ("transformer/config.json", {"guidance_embeds": True}), "flux1-dev"),
        ({"_class_name": "FluxPipeline"}, ("transformer/config.json", {}), "flux1-schnell"),
        ({"_class_name": "Flux2KleinPipeline", "is_distilled": True}, None, "flux2-klein-4b"),
        ({"_class_name": "Flux2KleinPipeline", "is_distilled": False}, None, "flux2-klein-base-4b"),
        ({"_class_name": "ZImagePipeline"}, ("scheduler/scheduler_config.json", {"shift": 3.0}), "z-image-turbo"),
        ({"_class_name": "ZImagePipeline"}, ("scheduler/scheduler_config.json", {"shift": 6.0}), "z-image"),
        ({"_class_name": "ChromaPipeline"}, None, "chroma1-hd"),
        (
            {"_class_name": "Flux3DistilledModularPipeline"},
            ("transformer/config.json", {"flow_map": True}),
            "flux3-klein",
        ),
        ({"_class_name": "Flux3ModularPipeline"}, None, "flux3-klein-base"),
    ],
)
def test_a_folder_of_ones_own_starts_with_the_values_of_the_model_that_it_resembles(
    tmp_path: Path, index: dict[str, object], other: tuple[str, dict[str, object]] | None, like: str
) -> None:
    write_json(tmp_path / "model_index.json", index)
    if other:
        write_json(tmp_path / other[0], other[1])
    known, entry = KNOWN[like], catalog.entry_for(tmp_path, "mine")
    assert (catalog.drawing_of(tmp_path), entry.trains) == (known.drawing, known.trains)
    assert entry.defaults["sample_steps"] == known.drawing["steps"]
    assert entry.defaults.items() >= known.defaults.items()


def test_a_family_that_cannot_be_loaded_is_shown_in_words_and_never_handed_out(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PIPELINES", {})
    shutil.copytree(repository, tmp_path / "models" / "mine")
    entry = catalog.models([tmp_path / "models"])["mine"]
    assert (entry.on_disk, entry.usable, entry.family) == (True, False, None)
    assert entry.trouble == "This version of Likeness cannot load a FluxPipeline yet."
    with pytest.raises(ModelProblem, match="cannot load a FluxPipeline yet"):
        catalog.find("mine", [tmp_path / "models"])


def test_a_known_model_that_is_not_here_says_where_to_get_it() -> None:
    with pytest.raises(ModelProblem, match=r"FLUX\.1 dev is not on this computer yet\. Download it on the Models page"):
        catalog.find("flux1-dev")


def test_a_broken_card_is_said_and_breaks_nothing_else(repository: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(repository, tmp_path / "models" / "mine")
    (folder / "likeness.json").write_text('{"defaults": 3}')
    found = catalog.models([tmp_path / "models"])
    assert "defaults must be a table" in found["mine"].trouble
    assert found["pocket"].usable


def test_pocket_needs_no_network_and_no_other_model() -> None:
    entry = catalog.models()["pocket"]
    assert (entry.usable, entry.trains, entry.draws_with, entry.known) == (True, True, "pocket", None)
    assert TrainConfig().model == "pocket"


def test_flux1_schnell_has_an_assistant_and_what_only_looks_like_it_has_none(repository: Path, tmp_path: Path) -> None:
    """Without it, both the catalog and a sentence say so; dev and Pocket need none."""
    folder = tmp_path / "flux1-schnell"
    shutil.copytree(repository, folder)
    scheduler = {"shift": 1.0, "use_dynamic_shifting": False}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    entry = catalog.find("flux1-schnell", [tmp_path])
    assert entry.lacks_assistant
    assert "loses that, and its pictures turn soft. The Models page offers one." in catalog.unassisted(folder)
    assert SCHNELL.assistant is not None
    file = hub_cache.folder(SCHNELL.assistant.repo) / "snapshots" / "abc" / SCHNELL.assistant.name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"an adapter")
    assert catalog.assistant_of(folder) == file
    assert not catalog.find("flux1-schnell", [tmp_path]).lacks_assistant
    assert catalog.unassisted(folder) == ""
    assert catalog.assistant_of(catalog.POCKET_FOLDER) is None
    assert catalog.unassisted(catalog.POCKET_FOLDER) == ""

    write_json(folder / "likeness.json", {"assistant": None})
    assert catalog.assistant_of(folder) is None
    (folder / "likeness.json").unlink()
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler | {"use_dynamic_shifting": True})
    assert catalog.assistant_of(folder) is None
    assert catalog.unassisted(folder) == ""

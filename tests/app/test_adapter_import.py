"""Adapters of strangers on import: what counts beside them, what is refused at once, and whose names sentences use."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlx.core as mx
import pytest
from starlette.testclient import TestClient

from app.tables import Adapter, Job
from core.adapters import file as adapter_file
from tests import tiny_klein
from tests.app.conftest import ROOT, problem_of
from tests.core.test_adapter_kinds import lokr

LAYER = "transformer_blocks.1.attn.to_q"
CONFIG = json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 6}).encode()


def lora(path: Path, layer: str = LAYER, width: int = 256, scale: float = 1.0, **more: mx.array) -> bytes:
    """A LoRA of rank 2 on one layer; Pocket's are 256 wide."""
    tensors = {f"{layer}.lora_A.weight": mx.ones((2, width)), f"{layer}.lora_B.weight": scale * mx.ones((width, 2))}
    return saved(path, tensors | {f"{layer}.{end}": value for end, value in more.items()})


def saved(path: Path, tensors: dict[str, mx.array]) -> bytes:
    mx.save_safetensors(f"{path}.safetensors", tensors)
    return Path(f"{path}.safetensors").read_bytes()


def put(
    client: TestClient, content: bytes, config: bytes = b"", name: str = "mine.safetensors", query: str = ""
) -> Any:
    query += f"&config_bytes={len(config)}" if config else ""
    return client.put(f"/api/adapters/{quote(name, safe='')}?{query}", content=content + config)


def file_of(client: TestClient, number: int) -> Path:
    database = client.app.state.database  # type: ignore[attr-defined]
    with database.read() as session:
        return Path(database.home.file(session.get_one(Adapter, number).file))


def used_by_a_picture(client: TestClient, adapter: int) -> bool:
    """Whether the job of a picture with this adapter names settings beside the file's own hash."""
    request = {"model": "pocket", "prompt": "a can", "adapters": [{"id": adapter}]}
    job = client.post("/api/pictures", json=request).json()["job_id"]
    database = client.app.state.database  # type: ignore[attr-defined]
    with database.read() as session:
        (used,) = session.get_one(Job, job).params["adapters"]
    return used.get("settings") == hashlib.sha256(CONFIG).hexdigest()


def test_settings_that_come_with_a_file_decide_its_strength(client: TestClient, tmp_path: Path) -> None:
    content = lora(tmp_path / "a")
    answer = put(client, content, CONFIG, "my can.safetensors")
    assert (answer.status_code, answer.json()["warnings"]) == (201, [])
    path = file_of(client, answer.json()["id"])
    assert path.read_bytes() == content
    assert path.name == "my can.safetensors"
    assert adapter_file.read(path, "flux1").factors[LAYER][1][0, 0].item() == 3.0
    assert client.get(f"/api/adapters/{answer.json()['id']}/file").content == content

    alone = put(client, content)
    assert (alone.status_code, alone.json()["id"]) == (201, 2)  # the same bytes, but at another strength
    assert adapter_file.read(file_of(client, 2), "flux1").factors[LAYER][1][0, 0].item() == 1.0
    assert [used_by_a_picture(client, number) for number in (1, 2)] == [True, False]
    assert [put(client, content, config).json()["id"] for config in (CONFIG, b"")] == [1, 2]
    assert client.delete("/api/adapters/1").status_code == 204
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert [each.name for each in home.trash.rglob("*") if each.is_file()] == ["adapter_config.json", path.name]
    assert adapter_file.read(file_of(client, 2), "flux1").factors


def test_an_upload_without_alpha_says_what_is_assumed(client: TestClient, tmp_path: Path) -> None:
    (warning,) = put(client, lora(tmp_path / "a")).json()["warnings"]
    assert warning.startswith("names no alpha, so alpha = rank is assumed")
    assert put(client, lora(tmp_path / "b", alpha=mx.array(2.0))).json()["warnings"] == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (b"{", "The adapter_config.json of mine.safetensors has settings"),
        (b"\xff\xfe{}", "The adapter_config.json of mine.safetensors is not UTF-8 text"),
        (b'{"r": 2}', "with a lora_alpha that cannot be read"),
        (b'{"lora_alpha": 8, "alpha_pattern": {"(a+)+$": 4}}', "with patterns that cannot be read"),
    ],
)
def test_settings_that_cannot_be_read_are_refused_and_nothing_is_kept(
    client: TestClient, tmp_path: Path, config: bytes, words: str
) -> None:
    error = problem_of(put(client, lora(tmp_path / "a"), config), 422)
    assert words in error["message"]
    home = client.app.state.database.home  # type: ignore[attr-defined]
    assert list(home.adapters.iterdir()) == list(home.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("layer", "width"), [(LAYER, 256), ("double_blocks.0.img_attn.qkv", 256)], ids=["alone", "fused"]
)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_file_of_zeros_is_refused(client: TestClient, tmp_path: Path, layer: str, width: int, zero: float) -> None:
    rows = 3 * width if "qkv" in layer else width
    pair = {f"{layer}.lora_A.weight": mx.ones((2, width)), f"{layer}.lora_B.weight": mx.full((rows, 2), zero)}
    error = problem_of(put(client, saved(tmp_path / "a", pair)), 422)
    assert error["message"] == "mine.safetensors is all zeros: it would change nothing."


@pytest.mark.parametrize("layer", ["transformer.blocks.0.attn.q", "lora_unet_down_blocks_0_attn", "nowhere"])
def test_names_of_no_family_are_refused_on_import(client: TestClient, tmp_path: Path, layer: str) -> None:
    error = problem_of(put(client, lora(tmp_path / "a", layer)), 422)
    assert error["message"].startswith("mine.safetensors is not an adapter file")
    assert error["problems"][0]["field"] == f"{layer}.lora_A.weight"
    assert error["problems"][0]["message"] == "names no layer of FLUX.1, FLUX.2, Z-Image, Chroma or FLUX.3"


def test_a_file_for_another_family_than_the_model_says_so(client: TestClient, tmp_path: Path) -> None:
    content = lora(tmp_path / "a", "layers.3.attention.to_q")
    error = problem_of(put(client, content, query="model=pocket"), 422)
    assert error["message"].startswith("mine.safetensors was made for Z-Image, and this model is FLUX.1")


def test_without_a_model_the_one_is_chosen_that_the_file_fits(
    client: TestClient, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_klein.make_model_folder(tmp_path / "models" / "small-klein")
    (tmp_path / "models" / "tiny").symlink_to(models_folder / "tiny")
    monkeypatch.setenv("LIKENESS_MODELS", str(tmp_path / "models"))
    chosen = [
        put(client, lora(tmp_path / "a", layer, width), name=f"{layer}.safetensors").json()["model"]
        for layer, width in [(LAYER, 256), (LAYER, 64), ("single_transformer_blocks.0.proj_mlp", 7)]
    ]
    assert chosen[:2] == ["pocket", "tiny"]
    assert chosen[2] in ("pocket", "tiny")  # of the family at least; drawing says that it does not fit
    again = put(client, lora(tmp_path / "a", LAYER, 64), query="model=pocket").json()
    assert (again["id"], again["model"]) == (2, "pocket")
    assert put(client, lora(tmp_path / "a", LAYER, 64)).json()["model"] == "tiny"
    ff = lora(tmp_path / "b", "transformer_blocks.0.ff.linear_out", 32)
    assert put(client, ff).json()["model"] == "small-klein"


def test_an_odd_name_becomes_that_of_a_file(client: TestClient, tmp_path: Path) -> None:
    for name in ("../../../etc/pass\u202ewd", "x" * 300 + ".safetensors", ".safetensors", "con.safetensors"):
        answer = put(client, lora(tmp_path / "a", scale=len(name)), name=name)
        assert answer.status_code == 201
        path = file_of(client, answer.json()["id"])
        home = client.app.state.database.home  # type: ignore[attr-defined]
        assert path.is_file()
        assert path.parent.parent == home.adapters
        assert path.suffix == ".safetensors"
    error = problem_of(put(client, b"", name="a\nb\u202e.safetensors"), 422)
    assert error["message"].startswith("ab.safetensors is not a complete safetensors file")


def test_an_adapter_of_an_older_home_has_a_file_alone(client: TestClient, tmp_path: Path) -> None:
    """It is found again by its bytes, and deleted without those beside it."""
    content = lora(tmp_path / "a")
    database = client.app.state.database  # type: ignore[attr-defined]
    sha256 = hashlib.sha256(content).hexdigest()
    for name in (f"{sha256}.safetensors", "another.safetensors"):
        (database.home.adapters / name).write_bytes(content)
    with database.write() as session:
        session.add(Adapter(name="old", model="pocket", file=f"adapters/{sha256}.safetensors", sha256=sha256, rank=2))
    answer = put(client, content)
    assert (answer.status_code, answer.json()["name"]) == (200, "old")
    assert put(client, content, CONFIG).json()["id"] == 2
    assert client.delete("/api/adapters/1").status_code == 204
    left = [path.name for path in database.home.adapters.rglob("*") if path.is_file()]
    assert sorted(left) == ["adapter_config.json", "another.safetensors", "mine.safetensors"]


@pytest.mark.slow
def test_a_drawing_names_the_adapter_as_the_studio_lists_it(
    client: TestClient, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A LoKr is drawn with; one whose file was damaged since, and one for another width, are named."""
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    factors = {f"transformer.{LAYER}.{end}": mx.array(0.1 * value) for end, value in lokr((4, 16), (4, 16))[0].items()}
    imported = [
        put(client, content, query="model=tiny", name=f"{name}.safetensors").json()["id"]
        for name, content in [
            ("kron", saved(tmp_path / "a", factors)),
            ("torn", lora(tmp_path / "b", width=64)),
            ("wide", lora(tmp_path / "c", width=256)),
        ]
    ]
    client.patch(f"/api/adapters/{imported[1]}", json={"name": "Torn one"})
    torn = file_of(client, imported[1])
    torn.write_bytes(torn.read_bytes()[:-8])
    jobs = []
    for number in imported:
        request = {"model": "tiny", "prompt": "a can", "adapters": [{"id": number}], "without": True, "steps": 1}
        jobs.append(client.post("/api/pictures", json=request).json()["job_id"])
        worker = [sys.executable, "-P", "-m", "app.worker", "--home", str(tmp_path / "home"), "--lane", "memory"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(worker, env=environment, cwd=tmp_path, timeout=240, check=True)
    drawn, damaged, misfit = (client.get(f"/api/jobs/{job}").json() for job in jobs)
    assert drawn["state"] == "succeeded", drawn
    one, other = (client.get(each["url"]).content for each in client.get("/api/pictures").json())
    assert one != other
    assert damaged["error"]["message"].startswith("Torn one is damaged")
    assert misfit["error"]["message"].startswith("wide was made for another model")

"""Imported adapters: the trigger comes with the file, and they can be renamed and deleted."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from starlette.testclient import TestClient

from app.tables import Adapter
from core.adapters import diffusers
from core.config.resolve import resolve
from tests.app.test_api import problem_of
from tests.app.test_exports import LAYER, run_with_checkpoint


def lora_file(metadata: dict[str, str]) -> bytes:
    """A LoRA of one 2 x 2 layer with this metadata."""
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    for place, which in enumerate("AB"):
        entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * place, 16 * place + 16]}
        table[f"transformer.x_embedder.lora_{which}.weight"] = entry
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", 1.0) * 8


def our_metadata(trigger: str) -> dict[str, str]:
    return diffusers.metadata_for(
        resolve({}).config,
        family="pocket",
        modelspec={"architecture": "pocket", "implementation": "likeness"},
        title="My can",
        trigger=trigger,
        step=3,
        rank=2,
        photos=1,
        started_at=0.0,
    )


def imported(client: TestClient, content: bytes, name: str = "mine.safetensors") -> dict[str, Any]:
    answer = client.put(f"/api/adapters/{name}", content=content)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_trigger_of_our_own_file_is_read_back(client: TestClient) -> None:
    adapter = imported(client, lora_file(our_metadata("sks")))
    assert adapter["trigger"] == "sks"
    page = client.get("/pictures").text
    assert "a photo of sks on the beach" in page
    assert 'data-trigger="sks" data-class-word="" data-imported="mine"' in page


def test_a_file_that_was_imported_before_its_trigger_was_read_gets_it(client: TestClient) -> None:
    content = lora_file(our_metadata("sks"))
    number = imported(client, content)["id"]
    with client.app.state.database.write() as session:  # type: ignore[attr-defined]
        row = session.get_one(Adapter, number)
        row.trigger = ""
        session.add(row)
    again = imported(client, content, "again.safetensors")
    assert (again["id"], again["name"], again["trigger"]) == (number, "mine", "sks")


@pytest.mark.parametrize(
    ("trigger", "read"), [("  a \n b\x00", "a b"), ("\ud800sks", "sks"), ("x" * 5000, "x" * 100), ("", "")]
)
def test_an_odd_trigger_is_read_as_one_line(client: TestClient, trigger: str, read: str) -> None:
    assert imported(client, lora_file({"modelspec.trigger_phrase": trigger}))["trigger"] == read


def test_an_imported_adapter_is_renamed_and_deleted(client: TestClient) -> None:
    adapter = imported(client, lora_file({}))
    address = f"/api/adapters/{adapter['id']}"
    answer = client.patch(address, json={"name": "  Red   can "})
    assert (answer.status_code, answer.json()["name"]) == (200, "Red can")
    assert client.get("/api/adapters").json()[0]["name"] == "Red can"
    for name in ("", " ", "x" * 101, "a\x00b"):
        error = problem_of(client.patch(address, json={"name": name}), 422)
        assert error["message"] == "The adapter needs another name."
        assert error["problems"][0]["field"] == "name"
    assert client.delete(address).status_code == 204
    problem_of(client.patch(address, json={"name": "gone"}), 404)


def test_an_adapter_of_a_run_keeps_its_name(client: TestClient) -> None:
    database = client.app.state.database  # type: ignore[attr-defined]
    run = run_with_checkpoint(database, {LAYER: (mx.ones((2, 8)), mx.ones((8, 2)))}, model="pocket")
    with database.write() as session:
        file = "runs/1/checkpoints/5/adapter.safetensors"
        row = Adapter(name="My can", model="pocket", run_id=run, checkpoint_id=1, file=file, sha256="0", rank=2)
        session.add(row)
        session.flush()
        number = row.id
    error = problem_of(client.patch(f"/api/adapters/{number}", json={"name": "other"}), 409)
    assert "rename the run instead" in error["message"]


def test_the_page_knows_what_suits_the_model_of_an_adapter_that_is_imported_on_it(
    client: TestClient, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    page = client.get("/pictures").text
    suits = json.loads(page.partition('id="suits-data">')[2].partition("</script>")[0])
    assert suits["tiny"] == {"steps": "2", "guidance": "2", "width": "64", "height": "64"}

"""A home of an earlier version opens, with everything in it, and is then the same as a new one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.database import Database
from app.home import Home
from app.main import create_app
from tests.app.conftest import picture, until
from tests.app.test_exports import PAIR, save_adapter
from tests.app.test_sending import send

SHA256 = "a" * 64
# The schema of version 1 as SQLite has it, without tables that have not changed since and that nothing here fills.
VERSION_1 = """
CREATE TABLE project (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, name VARCHAR NOT NULL, "trigger" VARCHAR NOT NULL,
    class_word VARCHAR NOT NULL, created_at DATETIME NOT NULL);
CREATE TABLE photo (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE, name VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL, extension VARCHAR NOT NULL, bytes INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, warnings JSON NOT NULL,
    created_at DATETIME NOT NULL, UNIQUE (project_id, name), UNIQUE (project_id, sha256));
CREATE INDEX ix_photo_project_id ON photo (project_id);
CREATE INDEX ix_photo_sha256 ON photo (sha256);
CREATE TABLE crop (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    photo_id INTEGER NOT NULL REFERENCES photo (id) ON DELETE CASCADE, "left" FLOAT NOT NULL, top FLOAT NOT NULL,
    "right" FLOAT NOT NULL, bottom FLOAT NOT NULL, at DATETIME NOT NULL);
CREATE INDEX ix_crop_photo_id ON crop (photo_id);
CREATE TABLE caption (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    photo_id INTEGER NOT NULL REFERENCES photo (id) ON DELETE CASCADE, text VARCHAR NOT NULL, origin VARCHAR NOT NULL,
    at DATETIME NOT NULL);
CREATE INDEX ix_caption_photo_id ON caption (photo_id);
CREATE TABLE version (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE, items JSON NOT NULL,
    created_at DATETIME NOT NULL);
CREATE INDEX ix_version_project_id ON version (project_id);
CREATE TABLE job (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind VARCHAR(8) NOT NULL, lane VARCHAR(6) NOT NULL,
    state VARCHAR(9) NOT NULL, position FLOAT NOT NULL, project_id INTEGER REFERENCES project (id) ON DELETE CASCADE,
    params JSON NOT NULL, attempt INTEGER NOT NULL, deaths INTEGER NOT NULL, pid INTEGER, pid_started_at FLOAT,
    boot_id VARCHAR, heartbeat_at DATETIME, stop VARCHAR(4) NOT NULL, save BOOLEAN NOT NULL, sample BOOLEAN NOT NULL,
    phase VARCHAR NOT NULL, step INTEGER NOT NULL, steps INTEGER NOT NULL, error JSON, result JSON NOT NULL,
    created_at DATETIME NOT NULL, started_at DATETIME, ended_at DATETIME);
CREATE INDEX job_waiting ON job (lane, state, position);
CREATE INDEX ix_job_project_id ON job (project_id);
CREATE TABLE event (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE, attempt INTEGER NOT NULL, kind VARCHAR NOT NULL,
    step INTEGER, payload JSON NOT NULL, at DATETIME NOT NULL);
CREATE INDEX event_of_job ON event (job_id, id);
CREATE INDEX ix_event_job_id ON event (job_id);
CREATE TABLE run (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    version_id INTEGER NOT NULL REFERENCES version (id) ON DELETE CASCADE, name VARCHAR NOT NULL, config JSON NOT NULL,
    versions JSON NOT NULL, hashes JSON NOT NULL, created_at DATETIME NOT NULL);
CREATE TABLE checkpoint (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, run_id INTEGER NOT NULL, step INTEGER NOT NULL,
    folder VARCHAR NOT NULL, bytes INTEGER NOT NULL, sha256 VARCHAR NOT NULL, pinned BOOLEAN NOT NULL,
    created_at DATETIME NOT NULL);
CREATE TABLE sample (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, job_id INTEGER NOT NULL, run_id INTEGER,
    step INTEGER, prompt_id INTEGER NOT NULL, prompt VARCHAR NOT NULL, seed INTEGER NOT NULL,
    adapter_strength FLOAT NOT NULL, recipe JSON NOT NULL,
    file VARCHAR NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    created_at DATETIME NOT NULL);
CREATE TABLE adapter (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, name VARCHAR NOT NULL, model VARCHAR NOT NULL,
    run_id INTEGER, checkpoint_id INTEGER, file VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, "rank" INTEGER NOT NULL,
    "trigger" VARCHAR NOT NULL, created_at DATETIME NOT NULL);
CREATE TABLE setting ("key" VARCHAR NOT NULL PRIMARY KEY, value JSON);
PRAGMA user_version = 1;
"""
AT = "2026-08-01 10:00:00.000000"
CROP = {"left": 0.1, "top": 0.30000000000000004, "right": 0.9, "bottom": 1.0}
DRAWING = {  # the parameters of a job that drew
    "model": "pocket", "prompt": "a can", "adapters": [{"id": 9, "sha256": "ab", "strength": 0.8}], "seed": 7,
    "count": 1, "steps": 8, "guidance": 3.0, "width": 80, "height": 64, "base_precision": "full", "without": False,
}  # fmt: skip
ITEM = {
    "photo_id": 1,
    "sha256": SHA256,
    "extension": "png",
    "name": "a.png",
    "crop": CROP,
    "caption": "a photo of sks can",
}


def old_home(root: Path) -> Home:
    """A home as version 1 left it: two photos with crops and captions, a run, and events of which some were deleted."""
    home = Home(root)
    home.create_folders()
    content = picture()
    home.photo(SHA256, "png").write_bytes(content)
    home.photo("b" * 64, "png").write_bytes(picture("blue"))
    config = json.dumps({"model": {"value": "pocket", "source": "default"}, "steps": {"value": 3, "source": "user"}})
    with closing(sqlite3.connect(home.database)) as connection:
        connection.executescript(VERSION_1)
        run = connection.execute
        run("INSERT INTO project VALUES (1, 'My can', 'sks', 'can', ?)", (AT,))
        for number, sha256 in ((1, SHA256), (2, "b" * 64)):
            name = f"{'ab'[number - 1]}.png"
            run("INSERT INTO photo VALUES (?, 1, ?, ?, 'png', 99, 80, 64, '[]', ?)", (number, name, sha256, AT))
        run("INSERT INTO crop VALUES (1, 1, 0.4, 0.4, 0.5, 0.5, ?)", (AT,))
        run("INSERT INTO crop VALUES (2, 1, 0.1, ?, 0.9, 1.0, ?)", (CROP["top"], AT))
        run("INSERT INTO crop VALUES (3, 2, 0.4, 0.4, 0.5, 0.5, ?)", (AT,))
        run("INSERT INTO crop VALUES (4, 2, 0.0, 0.0, 1.0, 1.0, ?)", (AT,))
        run("INSERT INTO caption VALUES (1, 1, 'older', 'template', ?)", (AT,))
        run("INSERT INTO caption VALUES (2, 1, 'a photo of sks can', 'user', ?)", (AT,))
        run("INSERT INTO version VALUES (1, 1, ?, ?)", (json.dumps([ITEM]), AT))
        columns = "id, kind, lane, state, position, project_id, params, attempt, deaths, stop, save, sample"
        columns += ", phase, step, steps"
        run(
            f"INSERT INTO job ({columns}, result, created_at) VALUES "
            "(1, 'train', 'memory', 'stopped', 1.0, 1, '{}', 1, 0, 'none', 0, 0, '', 2, 3, '{}', ?)",
            (AT,),
        )
        run("INSERT INTO run VALUES (1, 1, 1, 1, 'Run 1', ?, '{}', '{}', ?)", (config, AT))
        for number in range(1, 6):
            run("INSERT INTO event VALUES (?, 1, 1, 'metric', ?, '{\"loss\": 1}', ?)", (number, number, AT))
        run("DELETE FROM event WHERE id > 3")
        connection.commit()
    return home


def schema(path: Path) -> dict[str, Any]:
    """Tables with their columns, foreign keys and indexes."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: {
                "columns": sorted(
                    (name, kind, null) for _, name, kind, null, *_ in connection.execute(f"PRAGMA table_info({table})")
                ),
                "keys": sorted(row[2:7] for row in connection.execute(f"PRAGMA foreign_key_list({table})")),
                "indexes": sorted(
                    (row[2], tuple(each[2] for each in connection.execute(f"PRAGMA index_info({row[1]})")))
                    for row in connection.execute(f"PRAGMA index_list({table})")
                ),
            }
            for table in tables
        }


def test_an_older_home_opens_with_captions_crops_and_versions(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home")
    with TestClient(create_app(home.root, with_jobs=False), base_url="http://127.0.0.1") as client:
        first, second = client.get("/api/projects/1/photos").json()
        assert (first["caption"], first["crop"], first["crops"]) == ("a photo of sks can", CROP, [CROP])
        assert (second["caption"], second["crop"], second["crops"]) == (None, None, [])
        assert (first["aside"], first["mask"], first["subject"]["box"]) == (False, None, None)
        assert [one["text"] for one in client.get("/api/photos/1/captions").json()] == ["a photo of sks can", "older"]
        assert client.get("/api/runs/1").json()["items"] == [ITEM]
        assert client.get("/api/runs/1/metrics").json()["series"]["loss"] == [[1, 1.0], [2, 1.0], [3, 1.0]]
        page = client.get("/runs/1")  # of a run whose settings lack what came later
        assert (page.status_code, "a.png" in page.text, "stopped" in page.text) == (200, True, True)
        difference = client.get("/api/projects/1/versions/difference?before=1").json()
        assert [one["name"] for one in difference["added"]] == ["b.png"]
        assert [difference[what] for what in ("removed", "captions", "crops", "masks")] == [[], [], [], []]
        client.patch("/api/photos/1", json={"caption": "new"})
        assert client.post("/api/projects/1/undo").status_code == 200
        assert client.get("/api/photos/1").json()["caption"] == "a photo of sks can"
    assert list(home.root.glob("likeness-v1-*.db"))


def test_adapters_samples_and_exports_of_an_older_home_are_there_and_can_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = old_home(tmp_path / "home")
    pair = {"transformer_blocks.1.attn.to_q": PAIR}
    own = save_adapter(home.run(1) / "checkpoints" / "2" / "adapter.safetensors", pair)
    imported = save_adapter(home.adapters / "c.safetensors", pair)
    exported = save_adapter(home.exports / "2" / "adapter.safetensors", pair)
    for path in (home.run(1) / "samples" / "2-0.png", home.pictures / "3-0.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture("green", (64, 64)))
    result = json.dumps({"file": home.relative(exported), "name": "My-can-Run-1-2-kohya.safetensors", "bytes": 1})
    with closing(sqlite3.connect(home.database)) as connection:
        run = connection.execute
        columns = "id, kind, lane, state, position, project_id, params, attempt, deaths, stop, save, sample"
        for number, kind, lane in ((2, "export", "io"), (3, "sample", "memory")):
            run(
                f"INSERT INTO job ({columns}, phase, step, steps, result, created_at) VALUES "
                "(?, ?, ?, 'succeeded', 1.0, 1, '{\"run\": 1}', 1, 0, 'none', 0, 0, '', 0, 0, ?, ?)",
                (number, kind, lane, result if kind == "export" else "{}", AT),
            )
        run("INSERT INTO checkpoint VALUES (1, 1, 2, 'runs/1/checkpoints/2', 1, 'c', 0, ?)", (AT,))
        for number, job, of, step, file in (
            (1, 1, 1, 2, "runs/1/samples/2-0.png"),
            (2, 3, None, None, "pictures/3-0.png"),
        ):
            values = (number, job, of, step, 0, "sks can at sea", 7, 1.0, "{}", file, 64, 64, AT)
            run(f"INSERT INTO sample VALUES ({', '.join('?' * len(values))})", values)
        run("INSERT INTO adapter VALUES (1, 'A', 'pocket', 1, 1, ?, 'c', 2, 'sks', ?)", (home.relative(own), AT))
        values = (home.relative(imported), AT)
        run("INSERT INTO adapter VALUES (2, 'B', 'pocket', NULL, NULL, ?, 'd', 2, '', ?)", values)
        connection.commit()
    with TestClient(create_app(home.root, with_jobs=False), base_url="http://127.0.0.1") as client:
        assert [one["id"] for one in client.get("/api/adapters").json()] == [1, 2]
        for address, file in (
            ("adapters/1/file", own), ("adapters/2/file", imported), ("exports/2/file", exported),
            ("runs/1/adapter", own), ("pictures/2/file", home.pictures / "3-0.png"),
        ):  # fmt: skip
            assert client.get(f"/api/{address}").content == file.read_bytes(), address
        assert [one["step"] for one in client.get("/api/runs/1").json()["samples"]] == [2]
        sent = send(client, 1, monkeypatch, program="diffusers", folder=str(tmp_path))
        assert [Path(path).suffix for path in sent["result"]["written"]] == [".safetensors", ".png", ".txt"]
        assert "sks can at sea" in (tmp_path / "My-can-Run-1-2.txt").read_text()


def test_pictures_of_an_older_home_can_be_favourites(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home")
    with closing(sqlite3.connect(home.database)) as connection:
        columns = (
            "id, kind, lane, state, position, project_id, params, attempt, deaths, stop, save, sample, phase, step"
        )
        connection.execute(
            f"INSERT INTO job ({columns}, steps, result, created_at) VALUES "
            "(2, 'sample', 'memory', 'succeeded', 2.0, 1, ?, 1, 0, 'none', 0, 0, '', 1, 1, '{}', ?)",
            (json.dumps(DRAWING), AT),
        )
        values = "(1, 2, NULL, NULL, 0, 'a can', 7, 0.8, '{}', 'pictures/2-0.png', 80, 64, ?)"
        connection.execute(f"INSERT INTO sample VALUES {values}", (AT,))
        connection.commit()
    with TestClient(create_app(home.root, with_jobs=False), base_url="http://127.0.0.1") as client:
        (drawn,) = client.get("/api/pictures").json()
        assert (drawn["id"], drawn["favourite"]) == (1, False)
        assert [each["label"] for each in client.get("/api/drawings").json()[0]["pictures"]] == ["0.8"]
        assert client.patch("/api/pictures/1", json={"favourite": True}).json()["favourite"]


def test_ids_of_events_go_on_where_they_were(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home")
    Database(home).close()
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute(
            "INSERT INTO event (project_id, attempt, kind, payload, at) VALUES (1, 0, 'edit', '{}', ?)", (AT,)
        )
        assert connection.execute("SELECT max(id) FROM event").fetchone() == (6,), (
            "5 was deleted, and is not used again"
        )


def test_a_migrated_file_is_like_a_new_one(tmp_path: Path) -> None:
    home, new = old_home(tmp_path / "old"), Home(tmp_path / "new")
    Database(home).close()
    Database(new).close()
    migrated, fresh = schema(home.database), schema(new.database)
    assert migrated.keys() == fresh.keys()
    new_tables = ("grid", "removed", "configuration")
    for table in ("photo", "caption", "event", "edit", "analysis", "subject", "review", *new_tables):
        assert migrated[table] == fresh[table], table
    for part in ("columns", "keys"):  # the old file above lacks indexes
        assert migrated["run"][part] == fresh["run"][part]
    assert migrated["sample"]["columns"] == fresh["sample"]["columns"]


@pytest.mark.slow
def test_photos_of_an_older_home_are_reviewed_when_the_studio_starts(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home")
    with TestClient(create_app(home.root), base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/api/projects/1/review").json()["state"] == "done")
        assert client.get("/api/projects/1/review").json()["counts"]["photos"] == 2


def test_a_run_that_began_with_the_adapter_of_another_has_it_as_its_parent(tmp_path: Path) -> None:
    home = old_home(tmp_path / "home")
    with closing(sqlite3.connect(home.database)) as connection:
        run = connection.execute
        run("INSERT INTO checkpoint VALUES (1, 1, 2, 'runs/1/checkpoints/2', 9, ?, 0, ?)", (SHA256, AT))
        run("INSERT INTO adapter VALUES (1, 'My can', 'pocket', 1, 1, 'a.safetensors', ?, 4, 'sks', ?)", (SHA256, AT))
        start = json.dumps({"start_from": {"id": 1, "name": "My can"}})
        columns = "kind, lane, state, position, project_id, attempt, deaths, stop, save, sample, phase, step, steps"
        columns += ", error, result"
        run(
            f"INSERT INTO job (id, params, created_at, {columns}) SELECT 2, ?, created_at, {columns} FROM job",
            (start,),
        )
        run(
            "INSERT INTO run "
            "SELECT 2, 2, project_id, version_id, 'Run 2', config, versions, hashes, created_at FROM run"
        )
        connection.commit()
    with TestClient(create_app(home.root, with_jobs=False), base_url="http://127.0.0.1") as client:
        first, second = (client.get(f"/api/runs/{number}").json() for number in (1, 2))
        assert (first["parent"], first["children"][0]["run_id"]) == (None, 2)
        assert second["parent"] == {"run_id": 1, "name": "Run 1", "step": 2, "without": []}

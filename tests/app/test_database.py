"""The home folder and its file: private, migrated with a backup, refused where locks do not hold."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlmodel import select

from app import database as module
from app.database import Database
from app.errors import Busy, HomeProblem, status_of
from app.home import Home
from app.jobs.states import Kind, Lane
from app.migrations import run_numbers
from app.tables import Job, Project, Run, Version
from core.errors import DiskProblem


def project() -> Project:
    return Project(name="My can", trigger="sks", class_word="can")


def test_only_the_user_may_read_the_home(database: Database) -> None:
    assert database.home.root.stat().st_mode & 0o777 == 0o700
    assert database.home.database.stat().st_mode & 0o777 == 0o600
    assert database.home.photos.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["q?a", "a#b", "100%", "ä ö", "?mode=ro"])
def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    Database(Home(tmp_path / name)).close()
    assert (tmp_path / name / "likeness.db").is_file()
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    Database(Home(home)).close()
    assert home.stat().st_mode & 0o777 == 0o755
    assert (home / "likeness.db").stat().st_mode & 0o777 == 0o600


def test_a_folder_with_somebody_elses_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("mine")
    with pytest.raises(HomeProblem, match=r"not empty.*'thesis\.tex'.*--home"):
        Database(Home(home))
    assert [each.name for each in home.iterdir()] == ["thesis.tex"]


def test_a_link_that_leads_nowhere_is_a_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.symlink_to(tmp_path / "gone")
    with pytest.raises(HomeProblem, match=r"leads to .*gone"):
        Database(Home(home))


@pytest.mark.parametrize("content", [None, b""])
def test_a_home_without_its_database_is_no_empty_studio(tmp_path: Path, content: bytes | None) -> None:
    home = Home(tmp_path / "home")
    Database(home).close()
    (home.photos / "one.jpg").write_bytes(b"a photo")
    home.database.unlink()
    if content is not None:
        home.database.write_bytes(content)
    with pytest.raises(HomeProblem, match=r"files in photos.*likeness\.db.*backup"):
        Database(home)


def filled(home: Home) -> bytes:
    """The file of a database with a few hundred projects."""
    one = Database(home)
    with one.write() as session:
        session.add_all(project() for _ in range(500))
    one.close()
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return home.database.read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "garbage"])
def test_a_damaged_database_is_a_sentence_with_the_file_and_the_remedy(tmp_path: Path, damage: str) -> None:
    home = Home(tmp_path / "home")
    whole = filled(home)
    middle = len(whole) // 2
    broken = {
        "truncated": whole[:middle],
        "overwritten": whole[: middle - 4096] + bytes(8192) + whole[middle + 4096 :],
        "garbage": b"no database " * 1000,
    }[damage]
    home.database.write_bytes(broken)
    (home.root / "likeness-v2-20261130-120000-000000.db").write_bytes(whole)
    with pytest.raises(HomeProblem, match=r"likeness\.db is damaged.*likeness-v2-20261130-120000-000000\.db"):
        Database(home)
    assert home.database.read_bytes() == broken


@pytest.mark.parametrize("version", [0, 2])
def test_a_database_of_another_program_is_refused(tmp_path: Path, version: int) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
        connection.execute(f"PRAGMA user_version={version}")
        connection.commit()
    with pytest.raises(HomeProblem, match="another program"):
        Database(home)


def test_a_request_says_that_another_program_holds_the_lock_and_a_job_waits(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_WAITS_SECONDS", 0.1)
    hasty, patient = Database(database.home), Database(database.home, for_job=True)
    with closing(sqlite3.connect(database.home.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match=r"lock .*likeness"), hasty.write() as session:
            session.add(project())
    with patient.read() as session:
        waits = session.connection().execute(text("PRAGMA busy_timeout")).scalar()
    assert waits == 600_000
    assert status_of(Busy("")) == 503
    hasty.close()
    patient.close()


def test_a_connection_is_set_up_for_many_processes(database: Database) -> None:
    with database.read() as session:
        values = [
            session.connection().execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "foreign_keys")
        ]
    assert values == ["wal", 1]


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def half() -> None:
        with database.write() as session:
            session.add(project())
            session.flush()
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        half()
    with database.read() as session:
        assert session.exec(select(Project)).all() == []


def test_ids_are_never_used_twice(database: Database) -> None:
    with database.write() as session:
        session.add(first := project())
        session.flush()
        session.delete(first)
    with database.write() as session:
        session.add(second := project())
        session.flush()
    assert (first.id, second.id) == (1, 2)


def test_an_older_file_is_migrated_after_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    old = Database(home)
    with old.write() as session:
        session.add(project())
    old.close()

    def add_a_column(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE project ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'")

    before = module.SCHEMA_VERSION
    monkeypatch.setattr(module, "MIGRATIONS", [*module.MIGRATIONS, add_a_column])
    monkeypatch.setattr(module, "SCHEMA_VERSION", before + 1)
    Database(home).close()
    with closing(sqlite3.connect(home.database)) as connection:
        assert connection.execute("SELECT name, colour FROM project").fetchall() == [("My can", "red")]
        assert connection.execute("PRAGMA user_version").fetchone() == (before + 1,)
    (backup,) = home.root.glob(f"likeness-v{before}-*.db")
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT name FROM project").fetchall() == [("My can",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (before,)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    Database(home).close()

    def stumble(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE project ADD COLUMN colour TEXT")
        raise RuntimeError("stumbled")

    before = module.SCHEMA_VERSION
    monkeypatch.setattr(module, "MIGRATIONS", [*module.MIGRATIONS, stumble])
    monkeypatch.setattr(module, "SCHEMA_VERSION", before + 1)
    with pytest.raises(RuntimeError, match="stumbled"):
        Database(home)
    with closing(sqlite3.connect(home.database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (before,)
        assert "colour" not in [row[1] for row in connection.execute("PRAGMA table_info(project)")]


def test_runs_of_an_older_file_are_numbered_within_their_project(database: Database) -> None:
    with database.write() as session:
        for number, (project_id, name) in enumerate(
            ((1, "Run 1"), (2, "Run 2"), (2, "Good"), (2, "Run 4"), (1, "Run 9"))
        ):
            session.merge(Project(id=project_id, name="My can", trigger="sks", class_word="can"))
            session.flush()
            version = Version(project_id=project_id)
            job = Job(kind=Kind.TRAIN, lane=Lane.MEMORY, project_id=project_id)
            session.add_all([version, job])
            session.flush()
            run = Run(id=number + 1, job_id=job.id or 0, project_id=project_id, version_id=version.id or 0, name=name)
            session.add(run)
    assert run_numbers in module.MIGRATIONS
    with database.write() as session:
        run_numbers(session.connection())
    with database.read() as session:
        assert list(session.exec(select(Run.name))) == ["Run 1", "Run 1", "Good", "Run 3", "Run 9"]


def test_a_newer_file_is_refused_in_words(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    Database(home).close()
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(HomeProblem, match="newer Likeness"):
        Database(home)


@pytest.mark.parametrize("folder", ["Dropbox", "OneDrive - Work", "Library/Mobile Documents/com~apple~CloudDocs"])
def test_a_synced_folder_is_refused_in_words(tmp_path: Path, folder: str) -> None:
    with pytest.raises(HomeProblem, match="cloud service"):
        Database(Home(tmp_path / folder / "Likeness"))
    assert not (tmp_path / folder).exists()


def test_a_home_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises((HomeProblem, DiskProblem)):
        Database(Home(tmp_path / "home"))


def test_a_file_outside_the_home_is_never_named(database: Database) -> None:
    with pytest.raises(HomeProblem):
        database.home.file("../../etc/passwd")


def test_numbers_that_are_not_finite_never_reach_json(database: Database) -> None:
    with database.write() as session:
        session.add(Job(kind=Kind.CAPTION, lane=Lane.IO, result={"loss": math.nan, "more": [math.inf, 1.5]}))
    with database.read() as session:
        assert session.exec(select(Job)).one().result == {"loss": None, "more": [None, 1.5]}

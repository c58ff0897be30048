"""The time left of a run, asked at every event of whole runs with samples, scores and checkpoints."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session

from app.actions import time_left
from app.database import Database
from app.home import Home
from app.jobs.states import Kind, Lane, State
from app.tables import Event, Job, Project, Run, Version
from core.training import due

BEGAN = datetime(2026, 5, 1, 12, tzinfo=UTC)
WITHIN = 0.20  # of the truth, from 10% of the steps on
EVERY = 5  # events: asking at each of them finds the same, and takes a minute
LEAST_SECONDS = 2.0  # a few steps before the end a fifth is less than a single event


@dataclass(frozen=True)
class Made:
    """A run as it would be: what each thing takes, in seconds."""

    name: str
    steps: int = 120
    step: float = 0.5
    picture: float = 4.0
    prompts: int = 2
    score: float = 1.5
    save: float = 1.0
    sample_every: int = 20
    save_every: int = 40
    score_every: int = 10
    measured: int = 0  # pictures beside the samples of a round, drawn to be measured
    compiling: float = 0.0  # the first step, picture and score take longer by this much
    slower_shapes: float = 1.0  # every other step takes so many times as long
    slept_at: int = 0  # after this step the computer sleeps for an hour
    jump_at: int = 0  # after this step the clock is put back by ten minutes
    stopped_at: int = 0  # it is stopped there and resumed


RUNS = (
    Made("plain"),
    Made("samples cost more than all steps", picture=12.0),
    Made("samples are rare", sample_every=60, picture=10.0),
    Made("checkpoints are slow", save=8.0, save_every=10),
    Made("scores at every fifth step", score_every=5, score=3.0),
    Made("kernels compile", compiling=6.0),
    Made("two picture sizes", slower_shapes=4.0, step=0.3),
    Made("the computer slept", slept_at=50),
    Made("the clock was put back", jump_at=50),
    Made("stopped and resumed", stopped_at=70),
    Made("pictures are measured", measured=3, picture=3.0),
    Made("nothing but steps", sample_every=0, score_every=1000, save_every=1000, score=0.2),
    Made(
        "something after each step",
        steps=60,
        sample_every=1,
        save_every=1,
        score_every=1,
        picture=0.3,
        score=0.2,
        save=0.1,
    ),
)


@dataclass(frozen=True)
class Happened:
    """One event, in the order and at the times of app/worker/reporter.py."""

    at: float
    kind: str
    step: int | None
    payload: dict[str, Any]
    attempt: int = 1


def events_of(made: Made) -> Iterator[Happened]:
    """The stream of a run: `at` is the time spent on it, without sleep and without changes of the clock."""
    noise = random.Random(made.name)
    clock, attempt, seen = 0.0, 1, set()

    def spend(seconds: float, what: str = "") -> float:
        nonlocal clock
        first = made.compiling if what and what not in seen else 0.0
        seen.add(what)
        clock += seconds * noise.uniform(0.9, 1.1) + first
        return clock

    def drawing(step: int) -> Iterator[Happened]:
        for done in range(made.prompts + 1):
            if done:  # it is reported while a picture is drawn, too
                at = spend(0.9 * made.picture, "picture")
                same = {"name": "drawing samples", "done": done - 1, "of": made.prompts}
                yield Happened(at, "phase", None, same, attempt)
            at = spend(0.1 * made.picture) if done else clock
            payload = {"name": "drawing samples", "done": done, "of": made.prompts}
            yield Happened(at, "phase", None, payload, attempt)
            if done > 1:  # a thread writes the picture meanwhile: the last one is reported with the next step
                yield Happened(at, "sample", step, {"prompt_id": done - 2}, attempt)

        for _ in range(made.measured):
            yield Happened(clock, "phase", None, {"name": "drawing pictures to measure", "done": 0, "of": 0}, attempt)
            spend(made.picture)
        if made.measured:
            yield Happened(clock, "measured", step, {}, attempt)

    def score(step: int) -> Happened:
        return Happened(spend(made.score, "score"), "metric", step, {"held_out": 0.9}, attempt)

    spend(5.0)
    yield Happened(clock, "phase", None, {"name": "loading the model", "done": 0, "of": 1})
    yield score(0)
    if made.sample_every:
        yield from drawing(0)
    for step in range(1, made.steps + 1):
        slower = made.slower_shapes if step % 2 else 1.0
        took = spend(made.step * slower, "step")
        payload = {"lr": 1e-4, "loss": 0.4, "seconds": made.step * slower}
        yield Happened(took, "metric", step, payload, attempt)
        if due.scores(step, made.steps, made.score_every):
            yield score(step)
        if due.saves(step, made.steps, made.save_every):
            yield Happened(spend(made.save), "checkpoint", step, {"step": step}, attempt)
        if due.draws(step, made.steps, made.sample_every):
            yield from drawing(step)
        if step == made.stopped_at:
            attempt += 1
            yield Happened(clock, "rewind", step, {"to_step": step}, attempt)
            spend(5.0)


def a_run(session: Session, made: Made) -> tuple[Run, Job]:
    project = Project(name="Pip", trigger="sks", class_word="robot")
    session.add(project)
    session.flush()
    version = Version(project_id=int(project.id or 0))
    job = Job(kind=Kind.TRAIN, lane=Lane.MEMORY, state=State.RUNNING, steps=made.steps, attempt=1)
    session.add_all([version, job])
    session.flush()
    names = ("sample_every", "save_every", "score_every")
    values = {name: getattr(made, name) for name in names} | {"model": "pocket", "steps": made.steps}
    values["sample_prompts"] = [f"prompt {number}" for number in range(made.prompts)]
    config = {name: {"value": value, "source": "user"} for name, value in values.items()}
    run = Run(job_id=int(job.id or 0), project_id=int(project.id or 0), version_id=int(version.id or 0), config=config)
    session.add(run)
    session.flush()
    return run, job


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    one = Database(Home(tmp_path_factory.mktemp("time") / "home"))
    yield one
    one.close()


@pytest.mark.parametrize("made", RUNS, ids=lambda made: made.name)
def test_from_a_tenth_on_the_time_left_is_within_a_fifth_of_the_truth(database: Database, made: Made) -> None:
    happened = list(events_of(made))
    end = happened[-1].at
    wrong = []
    with database.write() as session:
        run, job = a_run(session, made)
        for number, each in enumerate(happened):
            if "lr" in each.payload:
                job.step = each.step or 0
            slept = 3600.0 if made.slept_at and job.step > made.slept_at else 0.0
            put_back = 600.0 if made.jump_at and job.step > made.jump_at else 0.0
            at = BEGAN + timedelta(seconds=each.at + slept - put_back)
            row = Event(job_id=run.job_id, attempt=each.attempt, kind=each.kind, step=each.step, payload=each.payload)
            row.at, job.attempt = at, each.attempt
            session.add(row)
            session.flush()
            if job.step < made.steps / 10 or number % EVERY:
                continue
            truth = end - each.at
            found = time_left.of_run(session, run, job, at)
            if found is None or abs(found - truth) > max(WITHIN * truth, LEAST_SECONDS):
                wrong.append(f"step {job.step}, after {each.kind}: {found} s, in truth {truth:.1f} s")
        session.rollback()
    assert not wrong


def test_a_run_that_has_not_begun_says_nothing_and_one_that_waits_again_what_is_left(database: Database) -> None:
    made = Made("waiting")
    with database.write() as session:
        run, job = a_run(session, made)
        assert time_left.of_run(session, run, job, BEGAN) is None
        for each in events_of(made):
            if each.step is not None and each.step > 60:
                break
            at = BEGAN + timedelta(seconds=each.at)
            session.add(
                Event(job_id=run.job_id, attempt=1, kind=each.kind, step=each.step, payload=each.payload, at=at)
            )
        job.step, job.state = 60, State.QUEUED
        session.flush()
        left = time_left.of_run(session, run, job)
        whole = 60 * made.step + 3 * 2 * made.picture + 2 * made.save + 6 * made.score
        assert left == pytest.approx(whole, rel=WITHIN)
        job.state = State.SUCCEEDED
        assert time_left.of_run(session, run, job) == 0.0
        session.rollback()


def test_what_a_checkpoint_costs_is_known_from_an_earlier_run_of_the_model(database: Database) -> None:
    made = Made("slow disk", save=30.0, save_every=50, steps=100, sample_every=0, score_every=1000, score=0.1)
    with database.write() as session:
        before, job_before = a_run(session, made)
        run, job = a_run(session, made)
        for row, owner, until in ((before, job_before, 100), (run, job, 20)):
            for each in events_of(made):
                if each.step is not None and each.step > until:
                    break
                at = BEGAN + timedelta(seconds=each.at)
                event = Event(job_id=row.job_id, attempt=1, kind=each.kind, step=each.step, payload=each.payload, at=at)
                session.add(event)
            owner.step, owner.state = until, State.QUEUED
        session.flush()
        assert time_left.of_run(session, run, job) == pytest.approx(80 * made.step + 2 * 30.0, rel=WITHIN)
        session.rollback()


def test_the_rules_of_what_is_due_are_those_that_the_trainer_follows() -> None:
    plan = time_left.Plan(steps=100, score_every=40, save_every=30, sample_every=25, prompts=2)
    walked = [plan.due_at(step) for step in range(41, 101) if plan.due_at(step)]
    assert sorted(map(sorted, plan.due_after(40))) == sorted(map(sorted, walked))
    assert plan.due_at(75) == {"samples"}
    assert plan.due_at(100) == {"samples", "checkpoint", "scores"}
    assert plan.due_at(57) == {"scores"}
    assert not plan.due_after(100)

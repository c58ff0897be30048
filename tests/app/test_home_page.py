"""A project's card shows the best of what was drawn beside a photo."""

from __future__ import annotations

from app.actions import projects
from app.database import Database
from app.jobs.states import Kind, Lane
from app.pages.home import home_page
from app.tables import Checkpoint, Job, Run, Sample, Version


def test_a_card_shows_the_plain_sample_of_the_starred_checkpoint_else_of_the_newest_step(database: Database) -> None:
    project = projects.create(database, "My can", "sks", "can").id
    with database.write() as session:
        version = Version(project_id=project)
        job = Job(kind=Kind.TRAIN, lane=Lane.MEMORY, project_id=project)
        session.add_all([version, job])
        session.flush()
        run = Run(job_id=job.id, project_id=project, version_id=version.id, config={"model": {"value": "pocket"}})
        session.add(run)
        session.flush()
        drawn = {}
        for step in (10, 20):
            session.add(Checkpoint(run_id=run.id, step=step, folder=f"{step}", bytes=1, sha256=f"{step}"))
            for prompt_id in (0, 1):
                row = Sample(run_id=run.id, job_id=job.id, step=step, prompt_id=prompt_id, prompt="", seed=1, file="")
                row.width = row.height = 64
                session.add(row)
                session.flush()
                drawn[step, prompt_id] = f"/api/pictures/{row.id}/file"
    assert home_page(database).projects[0].drawn_url == drawn[20, 0]
    with database.write() as session:
        session.get_one(Checkpoint, 1).pinned = True
    assert home_page(database).projects[0].drawn_url == drawn[10, 0]

"""A review as a job: every photo of a project that is not analysed yet, then the set as a whole.

    photo   --core.vision-->  Analysis, by the hash of its file; another project has it already
    set     --reconcile--->   Subject of each photo: what recurs in a set is its subject
            --review, pick->  Review: verdict, findings, and the photos by worth

Runs on the CPU, in the io lane beside a training. A photo that comes meanwhile is taken too; `check_jobs.close` says
when no more are. A photo that cannot be read is left out with a sentence in the log.

Where DINOv2 is on this computer its features are part of each analysis, under an analyser's name of its own: every
photo is looked at once more when the model comes, and again when its weights are others. A model that cannot be used
costs a warning in the log, and photos are looked at without it.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from sqlmodel import Session, col, select

from app.actions import check_jobs, masks, models
from app.actions.photo_views import found_subjects
from app.home import Home
from app.jobs.states import State
from app.tables import Analysis, Event, Photo, Review, Subject
from app.worker import subjects
from app.worker.outcome import Outcome
from app.worker.subjects import Found, Member
from app.worker.work import Work, write_log
from core.dataset import dates
from core.errors import DataProblem, ModelProblem
from core.hub.analysis_models import DINOV2_SMALL
from core.vision import analysers, pictures, results, review
from core.vision.base import Analyser

AT_ONCE = 20  # photos that are looked up together


def review_photos(work: Work) -> Outcome:
    """Review and judge until nothing is left to do. Raises Stopped, DiskProblem."""
    project_id = int(work.job.project_id or 0)
    unusable: Path | None = None
    while True:
        folder = models.dinov2_folder(work.database)
        used = None if folder == unusable else folder
        try:
            analyser = analysers.best(used)
            _analyse_new(work, project_id, analyser)
        except ModelProblem as problem:
            work.log(f"The photos are looked at without {DINOV2_SMALL.title}: {problem.message}", "warning")
            unusable = folder
            continue
        with work.database.read() as session:
            state = check_jobs.set_state(session, project_id)
            members = _members(session, project_id, analyser.name)
        work.report_phase("judging the set", 0, 1)
        found = subjects.find(work.home, members)
        row = _judged(work.home, check_jobs.judged(state, DINOV2_SMALL.name if used else ""), members, found)
        row.project_id = project_id
        if _store(work, row, members, found, analyser.name, folder):
            work.log(f"{row.verdict['title']}. {row.verdict['words']}")
            return Outcome(State.SUCCEEDED, result={"photos": len(members)})


def _analyse_new(work: Work, project_id: int, analyser: Analyser) -> None:
    """Every photo of the project that this analyser has not seen. Raises Stopped, ModelProblem."""
    done = 0
    while True:
        with work.database.read() as session:
            new = _unseen(session, project_id, analyser.name, AT_ONCE)
            left = len(new) if len(new) < AT_ONCE else len(_unseen(session, project_id, analyser.name, 10**6))
        if not new:
            return
        total = done + left
        for row in new:
            work.raise_if_stopped()
            work.report_phase("looking at the photos", done, total)
            analysis = _analysed(work.home, row, analyser)
            taken = dates.taken(work.home.photo(row.sha256, row.extension)) if row.taken is None else None
            done += 1
            with work.transaction(step=done, steps=max(done, total), deaths=0) as session:
                session.add(analysis)
                photo = session.get(Photo, row.id)
                if taken is not None and photo is not None:
                    photo.taken = taken
                    session.add(photo)
            if analysis.problem:
                work.log(f"{row.name} {analysis.problem}", "warning")


def _unseen(session: Session, project_id: int, name: str, limit: int) -> list[Photo]:
    seen = select(Analysis.id).where(Analysis.sha256 == Photo.sha256, Analysis.analyser == name).exists()
    return list(
        session.exec(select(Photo).where(Photo.project_id == project_id, ~seen).order_by(col(Photo.id)).limit(limit))
    )


def _analysed(home: Home, row: Photo, analyser: Analyser) -> Analysis:
    """Raises ModelProblem: that is no photo's fault."""
    made = Analysis(sha256=row.sha256, analyser=analyser.name)
    try:
        made.found = analyser.analyse(*pictures.read(home.photo(row.sha256, row.extension))).to_json()
    except ModelProblem:
        raise
    except DataProblem as problem:
        made.problem = problem.message
    except FileNotFoundError:
        made.problem = "is gone from the disk."
    except Exception:  # noqa: BLE001  one photo that trips the analysis must not keep the others from it
        write_log(traceback.format_exc(), "error")
        made.problem = "could not be analysed; the log of this job has the details."
    return made


def _members(session: Session, project_id: int, name: str) -> dict[int, Member]:
    """The photos that could be analysed, by id."""
    chosen = select(Photo, Analysis).join(Analysis, col(Analysis.sha256) == col(Photo.sha256))
    chosen = chosen.where(Photo.project_id == project_id, Analysis.analyser == name, Analysis.problem == "")
    rows = {int(row.id or 0): (row, analysis) for row, analysis in session.exec(chosen.order_by(col(Photo.id)))}
    earlier = found_subjects(session, rows)
    return {
        number: Member(row, results.Analysis.from_json(analysis.found), earlier.get(number))
        for number, (row, analysis) in rows.items()
    }


def _judged(home: Home, state: str, members: dict[int, Member], found: Found) -> Review:
    analyses = {number: each.analysis for number, each in members.items()}
    aside = [number for number, each in members.items() if each.row.aside]
    boxes = {number: subjects.in_force(home, each, found, number) for number, each in members.items()}
    judgement = review.review(analyses, boxes, aside)
    active = {number: each for number, each in analyses.items() if number not in set(aside)}
    return Review(
        state=state,
        verdict={"title": judgement.verdict.title, "words": judgement.verdict.words},
        findings=[
            {**each.to_json(), "of_the_set": each.of_the_set, "unsure": each.unsure} for each in judgement.findings
        ],
        good=judgement.counts.good,
        order=review.pick(active, len(active), boxes),
    )


def _store(
    work: Work, row: Review, members: dict[int, Member], found: Found, analyser: str, dinov2: Path | None
) -> bool:
    """Write the judgement and the subjects; False when the set, or DINOv2's folder, is another one by now.

    Raises ClaimLost, DiskProblem.
    """
    for subject in found.values():  # with all of their flushes before the transaction, which is short then
        if subject is not None:
            masks.keep(work.home, subject.mask)
    project_id = int(row.project_id or 0)
    of = sum(not each.row.aside for each in members.values())
    with work.transaction() as session:
        there = set(session.exec(select(Photo.id).where(Photo.project_id == project_id)))
        for number, subject in found.items():
            if number in there:
                made = Subject(
                    photo_id=number,
                    project_id=project_id,
                    of=of,
                    mask=masks.keep(work.home, subject.mask) if subject is not None else None,
                    within=members[number].row.subject,
                )
                if subject is not None:
                    box = subject.box
                    made.box, made.sure = [box.left, box.top, box.right, box.bottom], subject.sure
                session.merge(made)
        session.merge(row)
        current = check_jobs.is_about(row, check_jobs.set_state(session, project_id))
        current = current and dinov2 == models.dinov2_folder(work.database)
        finished = current and not _unseen(session, project_id, analyser, 1)
        if finished:
            check_jobs.close(session, work.claim.job_id)
        session.add(Event(project_id=project_id, kind="review", payload={"done": finished, **row.verdict}))
        return finished

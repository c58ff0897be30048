"""A review as a job: every photo of a project that is not analysed yet, then the set as a whole.

    photo   --core.vision-->  Analysis, by the hash of its file; another project has it already
    set     --reconcile--->   Subject of each photo: what recurs in a set is its subject
            --review, pick->  Review: verdict, findings, and the photos by worth

Runs on the CPU, in the io lane beside a training. A photo that comes meanwhile is taken too; `check_jobs.close` says
when no more are. A photo that cannot be read is left out with a sentence in the log.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass

import numpy as np
from PIL import Image
from sqlmodel import Session, col, select

from app.actions import check_jobs
from app.actions.photo_views import found_subjects
from app.home import Home
from app.jobs.states import State
from app.tables import Analysis, Event, Photo, Review, Subject
from app.worker.outcome import Outcome
from app.worker.work import Work, write_log
from core import files
from core.dataset import dates
from core.dataset.crops import Box
from core.errors import DataProblem
from core.vision import analysers, pictures, results, review
from core.vision import subject as subjects
from core.vision.base import Analyser

AT_ONCE = 20  # photos that are looked up together
AGAIN = 1.5  # times as many photos as when a subject was found: it is found again, in the better company


@dataclass(frozen=True, slots=True)
class Member:
    """A photo of the set, with its analysis and the subject that an earlier judgement found."""

    row: Photo
    analysis: results.Analysis
    subject: Subject | None


def review_photos(work: Work) -> Outcome:
    """Review and judge until nothing is left to do. Raises Stopped, DiskProblem."""
    project_id = int(work.job.project_id or 0)
    analyser = analysers.best()
    while True:
        _analyse_new(work, project_id, analyser)
        with work.database.read() as session:
            state = check_jobs.set_state(session, project_id)
            members = _members(session, project_id, analyser.name)
        work.report_phase("judging the set", 0, 1)
        found = _subjects(work.home, members)
        row = _judged(project_id, state, members, found)
        if _store(work, row, found, of=sum(not each.row.aside for each in members.values()), analyser=analyser.name):
            work.log(f"{row.verdict['title']}. {row.verdict['words']}")
            return Outcome(State.SUCCEEDED, result={"photos": len(members)})


def _analyse_new(work: Work, project_id: int, analyser: Analyser) -> None:
    """Every photo of the project that this analyser has not seen. Raises Stopped."""
    done = 0
    while True:
        with work.database.read() as session:
            new = _unseen(session, project_id, analyser.name, AT_ONCE)
            left = len(new) if len(new) < AT_ONCE else len(_unseen(session, project_id, analyser.name, None))
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


def _unseen(session: Session, project_id: int, name: str, limit: int | None) -> list[Photo]:
    seen = select(Analysis.id).where(Analysis.sha256 == Photo.sha256, Analysis.analyser == name).exists()
    return list(
        session.exec(select(Photo).where(Photo.project_id == project_id, ~seen).order_by(col(Photo.id)).limit(limit))
    )


def _analysed(home: Home, row: Photo, analyser: Analyser) -> Analysis:
    made = Analysis(sha256=row.sha256, analyser=analyser.name)
    try:
        made.found = analyser.analyse(*pictures.read(home.photo(row.sha256, row.extension))).to_json()
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


def _subjects(home: Home, members: dict[int, Member]) -> dict[int, results.Subject | None]:
    """The subject of each photo whose subject is to be found: new ones, and those found in much smaller a set."""
    active = {number: each for number, each in members.items() if not each.row.aside}
    known = {number: drawn for number, each in active.items() if (drawn := _drawn(home, each.row)) is not None}
    wanted = [
        number
        for number, each in active.items()
        if number not in known and (each.subject is None or each.subject.of * AGAIN <= len(active))
    ]
    found: dict[int, results.Subject | None] = {}
    if wanted:
        analyses = {number: each.analysis for number, each in active.items()}
        joint = subjects.reconcile(analyses, lambda number: _picture(home, members[number].row), known, wanted)
        found = {number: joint[number] for number in wanted}
    for number, each in members.items():
        if each.row.aside and each.subject is None:
            found[number] = each.analysis.subject
    return {number: _within(subject, members[number].row) for number, subject in found.items()} | known


def _picture(home: Home, row: Photo) -> pictures.Pixels:
    """The thumbnail, which is read faster; else the photo."""
    thumb = home.thumb(row.sha256)
    if not thumb.is_file():
        return pictures.read(home.photo(row.sha256, row.extension))[0]
    with Image.open(thumb) as image:
        return np.asarray(image.convert("RGB"))


def _drawn(home: Home, row: Photo) -> results.Subject | None:
    """The subject as the user's own mask has it; None without one."""
    if row.mask is None or not home.mask(row.mask).is_file():
        return None
    scale = min(pictures.SMALL_SIDE_PX / max(row.width, row.height), 1.0)
    size = max(round(row.width * scale), 1), max(round(row.height * scale), 1)
    mask_HW = pictures.decode_mask(home.mask(row.mask).read_bytes(), size)
    box = pictures.box_of(mask_HW)
    return None if box is None else results.Subject(box, pictures.encode_mask(mask_HW), 1.0)


def _within(subject: results.Subject | None, row: Photo) -> results.Subject | None:
    """The subject with its mask cut to the box that the user drew, if there is one."""
    if subject is None or row.subject is None:
        return subject
    box = Box(*row.subject)
    mask_HW = pictures.decode_mask(subject.mask)
    rows, columns = (np.linspace(0, 1, count, endpoint=False) + 0.5 / count for count in mask_HW.shape)
    inside = (rows >= box.top) & (rows < box.bottom), (columns >= box.left) & (columns < box.right)
    cut_HW = mask_HW & inside[0][:, None] & inside[1][None]
    if not cut_HW.any():
        cut_HW = inside[0][:, None] & inside[1][None]
    return results.Subject(subject.box, pictures.encode_mask(np.asarray(cut_HW, np.bool_)), subject.sure)


def _judged(
    project_id: int, state: str, members: dict[int, Member], found: dict[int, results.Subject | None]
) -> Review:
    analyses = {number: each.analysis for number, each in members.items()}
    aside = [number for number, each in members.items() if each.row.aside]
    boxes = {number: _in_force(each, found.get(number)) for number, each in members.items()}
    judgement = review.review(analyses, boxes, aside)
    active = {number: each for number, each in analyses.items() if number not in set(aside)}
    return Review(
        project_id=project_id,
        state=state,
        verdict={"title": judgement.verdict.title, "words": judgement.verdict.words},
        findings=[
            {**each.to_json(), "of_the_set": each.of_the_set, "unsure": each.unsure} for each in judgement.findings
        ],
        good=judgement.counts.good,
        order=review.pick(active, len(active), boxes),
    )


def _in_force(member: Member, found: results.Subject | None) -> results.Subject | None:
    """The subject to judge by: the user's box, else what was found now or earlier."""
    earlier = member.subject
    if found is None and earlier is not None and earlier.box is not None:
        found = results.Subject(Box(*earlier.box), b"", earlier.sure)
    if member.row.subject is None:
        return found
    return results.Subject(Box(*member.row.subject), found.mask if found else b"", 1.0)


def _store(work: Work, row: Review, found: dict[int, results.Subject | None], *, of: int, analyser: str) -> bool:
    """Write the judgement and the subjects; False when the set is another one by now. Raises ClaimLost, DiskProblem."""
    masks = {number: _keep_mask(work.home, subject) for number, subject in found.items() if subject is not None}
    project_id = int(row.project_id or 0)
    with work.transaction() as session:
        there = set(session.exec(select(Photo.id).where(Photo.project_id == project_id)))
        for number, subject in found.items():
            if number in there:
                box = [subject.box.left, subject.box.top, subject.box.right, subject.box.bottom] if subject else None
                sure = subject.sure if subject else 0.0
                session.merge(Subject(photo_id=number, box=box, sure=sure, of=of, mask=masks.get(number)))
        session.merge(row)
        current = row.state == check_jobs.set_state(session, project_id)
        finished = current and not _unseen(session, project_id, analyser, 1)
        if finished:
            check_jobs.close(session, work.claim.job_id)
        session.add(Event(project_id=project_id, kind="review", payload={"done": finished, **row.verdict}))
        return finished


def _keep_mask(home: Home, subject: results.Subject) -> str:
    sha256 = files.sha256_of(subject.mask)
    if not home.mask(sha256).is_file():
        files.write_bytes(home.mask(sha256), subject.mask)
    return sha256

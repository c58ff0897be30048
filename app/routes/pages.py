"""The pages: read the address, read what there is, show it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.contents import catalog, drawings, studio, subjects, training
from app.contents.lines import active_jobs
from app.database import Database
from app.errors import status_of
from app.pages import ErrorPage, Page, render
from app.routes.given import ID_AT_MOST, Db, Id
from core.errors import Problem

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

TITLES = {
    404: "There is no such page",
    405: "This address is for programs",
    409: "Not now",
    500: "Something went wrong",
}


@router.get("/")
def home(request: Request, db: Db) -> HTMLResponse:
    return _show(request, db, subjects.home(db))


@router.get("/projects/{project_id}")
def project(request: Request, db: Db, project_id: Id) -> HTMLResponse:
    return _show(request, db, subjects.project(db, project_id))


@router.get("/projects/{project_id}/train")
def new_run(request: Request, db: Db, project_id: Id) -> HTMLResponse:
    return _show(request, db, subjects.new_run(db, project_id))


@router.get("/runs/{run_id}")
def run(request: Request, db: Db, run_id: Id) -> HTMLResponse:
    return _show(request, db, training.run(db, run_id))


@router.get("/pictures")
def pictures(request: Request, db: Db, run: Annotated[int | None, Query(ge=1, le=ID_AT_MOST)] = None) -> HTMLResponse:
    return _show(request, db, drawings.pictures(db, run))


@router.get("/queue")
def queue(request: Request, db: Db) -> HTMLResponse:
    return _show(request, db, studio.queue(db))


@router.get("/models")
def models(request: Request, db: Db) -> HTMLResponse:
    return _show(request, db, catalog.models(db))


@router.get("/settings")
def settings(request: Request, db: Db) -> HTMLResponse:
    return _show(request, db, studio.settings_page(db))


def _show(request: Request, db: Database, page: Page) -> HTMLResponse:
    return render(request, page, active_jobs=active_jobs(db))


def wants_page(request: Request) -> bool:
    """Whether an error is to be shown as a page: a browser asks for something outside /api and /static."""
    path = request.url.path
    asks_html = "text/html" in request.headers.get("accept", "")
    return asks_html and not path.startswith(("/api/", "/static/"))


def problem_page(request: Request, problem: Problem) -> HTMLResponse:
    """A problem's sentence, as a page with its status."""
    return error_page(request, status_of(problem), problem.message)


def error_page(request: Request, status: int, message: str = "") -> HTMLResponse:
    """An error as a page. Reads no database, since that may be what is broken."""
    words = message or "The address may be old: what was there may have been deleted."
    return render(
        request, ErrorPage(status=status, title=TITLES.get(status, "That did not work"), message=words), status=status
    )

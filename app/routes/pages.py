"""The pages: read the address, fill the page, show it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.database import Database
from app.pages import error
from app.pages.begun_from import begun_from
from app.pages.compare import compare_page
from app.pages.home import home_page
from app.pages.lines import active_jobs
from app.pages.models import models_page
from app.pages.new_run import new_run_page
from app.pages.pictures import pictures_page
from app.pages.project import project_page
from app.pages.queue import queue_page
from app.pages.render import Page, render
from app.pages.run import run_page
from app.pages.settings import settings_page
from app.routes.given import ID_AT_MOST, Db, Id

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
def home(request: Request, db: Db) -> HTMLResponse:
    return _show(request, db, home_page(db))


@router.get("/projects/{project_id}")
def project(request: Request, db: Db, project_id: Id) -> HTMLResponse:
    return _show(request, db, project_page(db, project_id))


@router.get("/projects/{project_id}/train")
def new_run(
    request: Request,
    db: Db,
    project_id: Id,
    again: Annotated[int | None, Query(ge=1, le=ID_AT_MOST)] = None,
    step: Annotated[int | None, Query(ge=0, le=ID_AT_MOST)] = None,
) -> HTMLResponse:
    page = new_run_page(db, project_id, again)
    return _show(request, db, page if step is None else begun_from(db, page, step))


@router.get("/runs/compare")
def compare(request: Request, db: Db, ids: Annotated[list[str] | None, Query()] = None) -> HTMLResponse:
    """`?ids=1,2`, or `?ids=1&ids=2` as a form sends it."""
    return _show(request, db, compare_page(db, ",".join(ids or ())))


@router.get("/runs/{run_id}")
def run(request: Request, db: Db, run_id: Id) -> HTMLResponse:
    return _show(request, db, run_page(db, run_id))


@router.get("/pictures")
def pictures(
    request: Request,
    db: Db,
    run: Annotated[int | None, Query(ge=1, le=ID_AT_MOST)] = None,
    step: Annotated[int | None, Query(ge=0, le=ID_AT_MOST)] = None,
    adapter: Annotated[int | None, Query(ge=1, le=ID_AT_MOST)] = None,
) -> HTMLResponse:
    return _show(request, db, pictures_page(db, run, step, adapter))


@router.get("/queue")
def queue(request: Request, db: Db) -> HTMLResponse:
    return _show(request, db, queue_page(db))


@router.get("/models")
def models(request: Request, db: Db) -> HTMLResponse:
    return _show(request, db, models_page(db))


@router.get("/settings")
def settings(request: Request, db: Db) -> HTMLResponse:
    return _show(request, db, settings_page(db))


def _show(request: Request, db: Database, page: Page) -> HTMLResponse:
    return render(request, page, active_jobs=active_jobs(db))


def wants_page(request: Request) -> bool:
    """Whether an error is to be shown as a page: a browser asks for something outside /api and /static."""
    path = request.url.path
    accepts_html = "text/html" in request.headers.get("accept", "")
    return accepts_html and not path.startswith(("/api/", "/static/"))


def error_page(request: Request, status: int, message: str = "") -> HTMLResponse:
    """An error as a page."""
    return render(request, error.error_page(status, message), status=status)

"""The studio: one web application, and the server that runs it on this computer's own address.

Nothing here imports MLX: the server starts at once, and running out of memory can only take a job's process.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import Scope

from app import __version__, resources
from app.actions import captioner, check_jobs, models, unreferenced
from app.database import Database
from app.errors import HomeProblem, status_of
from app.events import ChangeWatcher
from app.home import Home
from app.routes import (
    api_checkpoints,
    api_choosing,
    api_configurations,
    api_curation,
    api_grids,
    api_pictures,
    api_projects,
    api_runs,
    api_sending,
    api_studio,
    api_together,
    pages,
)
from app.routes.given import ERRORS
from app.security import HEADERS, Guard
from app.worker import lanes
from app.worker.supervisor import Supervisor
from core.errors import DiskProblem, FieldProblem, Problem

CLOSE_SECONDS = 300.0  # for jobs to finish a step and save; a second Ctrl-C ends the wait
LOCK_FILE = "studio.lock"
UPLOAD_SECONDS = 3600.0  # no upload takes longer from its file to its row

CODES = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    500: "bug",
}
SENTENCES = {
    404: "There is nothing at this address.",
    405: "This address cannot be used like this.",
    413: "The request is too large.",
}

log = logging.getLogger(__name__)


def create_app(home: Path, *, with_jobs: bool = True) -> FastAPI:
    """The application over a home folder. Raises HomeProblem, DiskProblem.

    Without `with_jobs` no job is started, for tests of the queue itself.
    """
    database = Database(Home(home.expanduser().absolute()))

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        changes = ChangeWatcher(database.home.database)
        supervisor = Supervisor(database, changes)
        application.state.changes, application.state.supervisor = changes, supervisor
        application.state.hurry = asyncio.Event()
        database.home.create_reserve()
        database.home.clear_uploads()
        _tidy(database, with_jobs=with_jobs)
        tasks = [asyncio.create_task(changes.watch())]
        if with_jobs:
            tasks.append(asyncio.create_task(supervisor.run()))
        yield
        supervisor.closing = True
        changes.stop()
        await asyncio.gather(*tasks)
        if with_jobs:
            await supervisor.close(CLOSE_SECONDS, application.state.hurry)
        database.close()

    application = FastAPI(
        title="Likeness",
        summary="Teach an image model the likeness of your subject.",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        responses=ERRORS,
    )
    application.state.database = database
    first = (api_together, api_projects, api_curation, api_runs, api_choosing, api_checkpoints, api_configurations)
    for part in (*first, api_grids, api_pictures, api_sending, api_studio, pages):
        application.include_router(part.router)
    application.mount("/static", _StaticFiles(directory=resources.folder("static")), name="static")
    application.add_exception_handler(Problem, _on_problem)
    application.add_exception_handler(HTTPException, _on_http_error)
    application.add_exception_handler(RequestValidationError, _on_invalid)
    application.add_exception_handler(Exception, _on_bug)
    application.add_middleware(Guard)
    return application


def _tidy(database: Database, *, with_jobs: bool) -> None:
    """What is due at the start: files that no row refers to any more, an installation of the captioner that was killed,
    and reviews of photos that have had none."""
    try:
        unreferenced.move_all(database, older_than_seconds=UPLOAD_SECONDS)
        captioner.remove_half_made(database)
        if with_jobs:
            check_jobs.request_all(database, models.analysis_model(database))
    except DiskProblem as problem:  # the studio starts on a full disk, too
        log.warning("%s", problem)


def error_body(code: str, message: str, problems: list[FieldProblem]) -> dict[str, Any]:
    """The body of every error response."""
    listed = [{"field": problem.field, "message": problem.message} for problem in problems]
    return {"error": {"code": code, "message": message, "problems": listed}}


def _error_response(
    request: Request, status: int, code: str, message: str, problems: list[FieldProblem], headers: Any = None
) -> Response:
    if pages.wants_page(request):
        response: Response = pages.error_page(request, status, message)
        response.headers.update(headers or {})
        return response
    return JSONResponse(error_body(code, message, problems), status, headers)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    if isinstance(error, DiskProblem):
        log.warning("%s", error)
    return _error_response(request, status_of(error), error.code, error.message, error.problems)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    message = SENTENCES.get(status) or f"{error.detail}".rstrip(".") + "."
    code = CODES.get(status, HTTPStatus(status).name.lower())
    return _error_response(request, status, code, message, [], error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [FieldProblem(_field_of(each["loc"]), _sentence_of(each)) for each in error.errors()]
    return _error_response(request, 422, "invalid", "The request needs another look.", problems)


async def _on_bug(request: Request, error: Exception) -> Response:
    message = f"Something unexpected went wrong: {type(error).__name__}. The terminal has the details."
    return _error_response(request, 500, "bug", message, [], HEADERS)


def _field_of(location: tuple[int | str, ...]) -> str:
    """("body", "photos", 3) -> "photos.3"."""
    inner = [str(part) for part in location if part not in ("body", "query", "path", "header")]
    return ".".join(inner) or str(location[0])


def _sentence_of(detail: dict[str, Any]) -> str:
    if detail["type"] == "missing":
        return "is missing"
    if detail["type"] == "json_invalid":
        return f"cannot be read as JSON: {detail.get('ctx', {}).get('error', detail['msg'])}"
    given = detail.get("input")
    shown = f"is {given!r}; " if isinstance(given, str | int | float | bool) and len(str(given)) < 100 else ""
    message = str(detail["msg"])
    return f"{shown}{message[0].lower()}{message[1:]}"


class _StaticFiles(StaticFiles):
    """Scripts and styles that a browser revalidates each time, so that none is older than its page."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Server(uvicorn.Server):
    """uvicorn that shuts down cleanly: it ends the event streams first, and waits for the jobs."""

    def __init__(self, config: uvicorn.Config, application: FastAPI, url: str, open_browser: bool) -> None:
        super().__init__(config)
        self._application, self._url, self._open_browser = application, url, open_browser
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exit_signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            _print_line(f"Likeness is at {self._url}   (Ctrl-C ends it; jobs save first and resume at the next start)")
            if self._open_browser:
                threading.Thread(target=webbrowser.open, args=(self._url,), daemon=True).start()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """First signal: close properly. Second: do not wait for the jobs. Third: exit at once."""
        self._exit_signals += 1
        if self._exit_signals > 2:
            self.force_exit = True
        elif self._exit_signals == 2:
            self._call_soon(self._application.state.hurry.set)
        else:
            self.should_exit = True
            _print_line("Closing. Jobs finish their step and save; press Ctrl-C again not to wait for them.")
            self._call_soon(self._application.state.changes.stop)

    def _call_soon(self, call: Callable[[], object]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(call)


def serve(home: Path, port: int = 7860, open_browser: bool = True) -> int:
    """Run the studio until a signal ends it; where one already runs for this home, open that one instead.

    Returns an exit code. Raises HomeProblem for a home or a port that cannot be used, DiskProblem.
    """
    folder = Home(home.expanduser().absolute())
    folder.create_folders()
    lock = lanes.lock(folder.locks / LOCK_FILE)
    if lock is None:
        return _open_running(folder, open_browser)
    listener = _listen(port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    application = create_app(folder.root)
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"url": url, "pid": os.getpid()}).encode(), 0)
    config = uvicorn.Config(
        application, log_level="warning", access_log=False, timeout_graceful_shutdown=5, server_header=False, ws="none"
    )
    server = _Server(config, application, url, open_browser)
    signal.signal(signal.SIGHUP, server.handle_exit)  # the terminal window was closed
    server.run(sockets=[listener])
    os.close(lock)
    return 0 if server.started else 1


def _print_line(text: str) -> None:
    """A line for the person at the terminal."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _open_running(home: Home, open_browser: bool) -> int:
    try:
        url = json.loads((home.locks / LOCK_FILE).read_text())["url"]
    except (OSError, ValueError, KeyError):
        raise HomeProblem(f"Another Likeness is just starting with {home.root}; try again in a moment.") from None
    _print_line(f"Likeness already runs at {url} with {home.root}.")
    if open_browser:
        webbrowser.open(url)
    return 0


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise HomeProblem(
                f"Port {port} is taken by another program; choose one: likeness --port {port + 1}"
            ) from None
        if error.errno == errno.EACCES:
            raise HomeProblem(
                f"Port {port} may not be used here; choose one above 1023: likeness --port 7860"
            ) from None
        raise
    listener.set_inheritable(False)
    return listener

"""JSON: runs beside one another, when each job is done; and a run as one HTML file.

Included before the other routers: the words in these addresses stand where others have a number.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.actions import comparison, forecast, progress
from app.actions.comparison import Comparison
from app.actions.forecast import JobForecast
from app.pages.report import report_file
from app.routes.files import answers_with
from app.routes.given import Db, Id, StrictRoute

router = APIRouter(prefix="/api", tags=["runs"], route_class=StrictRoute)

REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
Points = Annotated[int, Query(ge=4, le=progress.POINTS_AT_MOST, description="Of each curve, about.")]


@router.get("/runs/compare")
def compare_runs(
    db: Db, ids: str = Query(description="Two to six runs, as in 1,2."), points: Points = progress.POINTS_DEFAULT
) -> Comparison:
    return comparison.compare(db, ids, points)


@router.get("/jobs/forecast")
def job_forecasts(db: Db) -> list[JobForecast]:
    """In how many seconds each job that runs or waits will be done."""
    return forecast.forecasts(db)


@router.get("/runs/{run_id}/report", **answers_with("text/html"))
def run_report(db: Db, run_id: Id, photos: bool = False) -> Response:
    """The run as one HTML file that needs nothing else; with `photos`, those that it trained on are in it.

    A plain function: it runs beside the event loop.
    """
    report = report_file(db, run_id, with_photos=photos)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{report.address_name}",
        "Content-Security-Policy": REPORT_POLICY,
    }
    return Response(report.html, media_type="text/html; charset=utf-8", headers=headers)

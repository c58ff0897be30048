"""The page of an error. It reads no database, since that may be what is broken."""

from __future__ import annotations

from dataclasses import dataclass

from app.pages.render import Page

TITLES = {
    404: "There is no such page",
    405: "This address is for programs",
    409: "Not now",
    500: "Something went wrong",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPage(Page):
    """Something is not there, or went wrong."""

    template = "error.html"
    status: int  # of HTTP
    title: str
    message: str


def error_page(status: int, message: str = "") -> ErrorPage:
    return ErrorPage(
        status=status,
        title=TITLES.get(status, "That did not work"),
        message=message or "The address may be old: the page may have been deleted.",
    )

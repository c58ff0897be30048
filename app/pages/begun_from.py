"""The page of a new run that starts from a checkpoint of an earlier one."""

from __future__ import annotations

from dataclasses import replace

from app.actions import adapters
from app.database import Database
from app.pages.lines import ALL
from app.pages.new_run import NewRunPage

OWN = ("rank", "alpha")  # an adapter to start from has its own


def begun_from(database: Database, page: NewRunPage, step: int) -> NewRunPage:
    """The page with the adapter of this step chosen, if the run whose settings it shows has saved one."""
    again = page.again
    of_run = (each for each in adapters.list_adapters(database, limit=ALL) if again and each.run_id == again["id"])
    start = next((each.id for each in of_run if each.step == step), None)
    if again is None or start is None:
        return page
    edits = {name: value for name, value in again["edits"].items() if name not in OWN}
    return replace(page, again={**again, "edits": edits | {"start_from": str(start)}})

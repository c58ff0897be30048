"""The row of a picture that was drawn, and the payload of its event."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from app.actions.run_views import picture_url
from app.tables import Sample


def add_sample(session: Session, row: Sample) -> dict[str, Any]:
    """Add the row of a picture whose file is written; returns the payload of its event."""
    session.add(row)
    session.flush()
    return {
        "id": row.id,
        "prompt_id": row.prompt_id,
        "prompt": row.prompt,
        "seed": row.seed,
        "adapter_strength": row.adapter_strength,
        "url": picture_url(int(row.id or 0)),
        "width": row.width,
        "height": row.height,
    }

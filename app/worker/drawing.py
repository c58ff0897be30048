"""Pictures of the drawing page as a job: load once, draw one at a time, each shown as soon as it is there."""

from __future__ import annotations

from typing import Any

from app.actions import models
from app.actions.run_views import picture_url
from app.jobs import store
from app.jobs.states import State, Stop
from app.tables import Sample
from app.worker.outcome import Outcome
from app.worker.work import Work
from core import files
from core.config.choices import BITS
from core.device import backend
from core.errors import AdapterProblem
from core.hub import catalog


class _Stopped(Exception):
    """The user or the studio ends the job between two sampler steps."""


def draw_pictures(work: Work) -> Outcome:
    """Draw what was requested for; the pictures that are done stay when it ends early."""
    backend.prepare()  # before MLX is imported for the first time
    from core.adapters import file as adapter_file
    from core.adapters import lora
    from core.models.load import load_family

    params = work.job.params
    work.phase("loading the model", 0, 1)
    bits = BITS[params.get("base_precision", "full")]
    family = load_family(catalog.find(params["model"], models.folders(work.database)).folder, quantize=bits)
    texts = family.encode_each([params["prompt"], ""])  # before the transformer is in memory, and for every picture
    attached = []
    for place, wanted in enumerate(params["adapters"]):
        path = work.home.file(wanted["file"])
        if not path.is_file():
            raise AdapterProblem("The adapter's file is no longer there; choose another checkpoint.")
        factors = adapter_file.read(path, family.name).factors
        one = lora.attach_factors(family.transformer, factors, name=f"adapter{place}", strength=wanted["strength"])
        attached.append((one, float(wanted["strength"])))
    wanted_pictures = [
        (number, with_adapter)
        for number in range(params["count"])
        for with_adapter in ((True, False) if params["without"] else (True,))
    ]
    done = work.job.step  # more than none when the job goes on after the studio was closed
    try:
        for place, (number, with_adapter) in list(enumerate(wanted_pictures))[done:]:
            work.phase("drawing", place, len(wanted_pictures))
            for one, strength in attached:
                one.strength = strength if with_adapter else 0.0
            _draw_one(work, family, params, texts, place, number, with_adapter)
    except _Stopped:
        return Outcome(State.QUEUED if work.requests.stop is Stop.NONE else State.STOPPED)
    work.phase("drawing", len(wanted_pictures), len(wanted_pictures))
    return Outcome(State.SUCCEEDED)


def _draw_one(
    work: Work, family: Any, params: dict[str, Any], texts: list[Any], place: int, number: int, with_adapter: bool
) -> None:
    from core.sampling import draw

    def look(_done: int, _of: int) -> None:
        if work.should_stop:
            raise _Stopped

    used = [
        {"sha256": each["sha256"], "strength": each["strength"] if with_adapter else 0.0} for each in params["adapters"]
    ]
    seed = (params["seed"] + number) % 2**31
    picture = draw(
        family,
        texts[0],
        height_px=params["height"],
        width_px=params["width"],
        steps=params["steps"],
        guidance=params["guidance"],
        seed=seed,
        on_step=look,
        negative_prompt=texts[1],
        about={"prompt": params["prompt"], "negative_prompt": "", "adapters": used},
    )
    target = work.home.pictures / f"{work.claim.job_id}-{place}.png"
    with files.atomic_file(target) as part:
        picture.image.save(part, "PNG")
    strength = used[0]["strength"] if used else 0.0
    with work.telling(step=place + 1) as session:
        row = Sample(
            job_id=work.claim.job_id,
            prompt_id=place,
            prompt=params["prompt"],
            seed=seed,
            adapter_strength=strength,
            recipe=picture.recipe,
            file=work.home.relative(target),
            width=picture.image.width,
            height=picture.image.height,
        )
        session.add(row)
        session.flush()
        payload = {
            "id": row.id,
            "prompt_id": place,
            "prompt": row.prompt,
            "seed": seed,
            "adapter_strength": strength,
            "url": picture_url(int(row.id or 0)),
            "width": row.width,
            "height": row.height,
        }
        store.tell(session, work.claim, "sample", payload)

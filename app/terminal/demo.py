"""`likeness demo`: the example photos become an adapter, a sample sheet and a loss chart, in a few minutes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.terminal import training
from app.terminal.console import interruptible, print_line
from app.wording import duration
from core import files, strict_json
from core.config.resolve import resolve
from core.dataset import photos
from core.dataset.examples import read_folder
from core.errors import ConfigProblem, FieldProblem
from core.hub import catalog
from core.models.load import load_family
from core.pocket import assets
from core.training import checkpoint

DEMO_STEPS = 300  # with the samples about three minutes on two CPU cores
SHEETS = 4  # rows of samples after the untrained one


def run_demo(out: Path, wanted_steps: str | None) -> dict[str, Any]:
    """Train on the example photos, write to `out` and print where each result is; returns the results for programs.

    Raises every Problem that training raises.
    """
    began = time.monotonic()
    subject = training.Subject(assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
    entry = catalog.find("pocket")
    steps = resolve({"steps": DEMO_STEPS if wanted_steps is None else wanted_steps}).config.steps
    every = max(1, steps // SHEETS)
    user = {"steps": steps, "save_every": max(1, steps // 2), "sample_every": every, "judged_seeds": 0}
    resolved = resolve(user, entry.defaults)
    config = resolved.config
    _check_out(out)
    examples, _ = read_folder(assets.EXAMPLES, subject.trigger, subject.class_word)
    print_line(f"Pocket learns {subject.trigger!r}, a {subject.class_word}, from {len(examples)} example photos.")
    family = load_family(entry.path)
    files.write_json(out / "config.json", {**resolved.as_json(), "_subject": asdict(subject), "_demo": True})
    with interruptible() as interrupt:
        finished = training.run(family, examples, config, out, subject, out / "cache", interrupt=interrupt)
    training.write_pictures(out, config, subject, photos.find(assets.EXAMPLES))
    result: dict[str, Any] = {
        "adapter": None,
        "steps": finished.step,
        "stopped": finished.stopped,
        "loss": finished.final_loss,
    }
    if finished.adapter is not None:
        with files.atomic_file(out / "adapter.safetensors") as part:
            shutil.copyfile(finished.adapter, part)
        result["adapter"] = str((out / "adapter.safetensors").resolve())
    for name in ("samples", "loss"):
        path = out / f"{name}.png"
        result[f"{name}_picture"] = str(path.resolve()) if path.is_file() else None
    result["seconds"] = round(time.monotonic() - began, 1)
    report(result, subject, out)
    return result


def report(result: Mapping[str, Any], subject: training.Subject, out: Path) -> None:
    """Print where each result is, and how to draw with the adapter if there is one."""
    begun = f"Stopped after step {result['steps']}," if result["stopped"] else "Done"
    print_line(f"\n{begun} in {duration(result['seconds'])}.")
    for what, name in (("adapter", "adapter"), ("sample sheet", "samples_picture"), ("loss chart", "loss_picture")):
        if result[name] is not None:
            print_line(f"  the {what:<14} {result[name]}")
    if result["adapter"] is None:
        print_line("There is no adapter before the first step is finished. Start the demo again.")
        return
    print_line(f"Draw with it:  likeness sample --adapter {out / 'adapter.safetensors'} \\")
    print_line(
        f'                 --prompt "a photo of {subject.trigger} {subject.class_word} in the snow" --out picture.png'
    )


def _check_out(out: Path) -> None:
    """Raise ConfigProblem for a folder with a run of the user's own. An earlier demo may be replaced."""
    try:
        earlier_demo = bool(strict_json.loads((out / "config.json").read_bytes()).get("_demo"))
    except (OSError, ValueError, AttributeError):
        earlier_demo = False
    if checkpoint.steps_saved(out) and not earlier_demo:
        problem = FieldProblem("--out", f"{out} holds a run of yours; use another folder for the demo")
        raise ConfigProblem("Nothing was trained.", [problem])

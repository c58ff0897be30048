"""`likeness train`: a folder of photos in, an adapter out.

OUT/adapter.safetensors   config.json   loss.png   samples.png   samples/   class_pictures/   checkpoints/<step>/
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from app import sheet
from app.terminal import distributed
from app.terminal.console import Interrupt, interruptible, print_line
from app.terminal.progress import ProgressPrinter
from app.terminal.run_request import check_request
from core import files, strict_json
from core.config.resolve import Resolved
from core.config.train import TrainConfig
from core.dataset.examples import Example, caption_sources
from core.device.hardware import this_computer
from core.distributed.hosts import Hosts
from core.errors import DataProblem, FieldProblem
from core.estimate.architecture import Architecture
from core.estimate.memory import forecast
from core.hub.analysis_models import DINOV2_SMALL, place_of
from core.models.base import Family
from core.models.load import load_family
from core.training import checkpoint
from core.training.events import Finished, Request
from core.training.group import ALONE, Group
from core.training.preview import prompts_of
from core.training.trainer import train
from core.vision.found import with_subjects


@dataclass(frozen=True, slots=True)
class Subject:
    """The words for the subject."""

    trigger: str
    class_word: str


class StoredRun(NamedTuple):
    """What config.json of a run holds; empty without a run."""

    user: dict[str, Any]  # the knobs that the user set
    subject: Subject | None
    start_from: Path | None  # the adapter that it began with


def train_folder(
    photos: Path,
    out: Path,
    subject: Subject,
    user: Mapping[str, Any],
    cache: Path,
    *,
    resume: bool,
    start_from: Path | None = None,
    folders: Sequence[Path] = (),
    hosts: Hosts | None = None,
) -> tuple[Finished, list[FieldProblem]]:
    """Train on a folder of photos; returns how it ended and which files were left out.

    The model is looked for in `folders` too (core/hub/catalog.py). With `start_from` the run has the layers and ranks
    of that adapter file. With `hosts`, or under mlx.launch, several machines share it.

    Raises every Problem that training raises; ConfigProblem that names all that is wrong with the request, before
    anything is loaded or written: a setting, an `out` that holds a run, `hosts` that cannot share it. A run that cannot
    be resumed with these settings keeps its config.json.
    """
    requested = check_request(
        photos,
        out,
        (subject.trigger, subject.class_word),
        user,
        resume=resume,
        start_from=start_from,
        folders=folders,
        hosts=hosts,
    )
    entry, resolved, examples = requested.entry, requested.resolved, requested.examples
    config = resolved.config
    for each in requested.left_out:
        print_line(f"Left out: {each.field} {each.message}")
    print_line(caption_sources(examples))
    _print_forecast(entry.path, config, out, len(examples))
    family = load_family(entry.path, quantize=config.base_bits)
    out.mkdir(parents=True, exist_ok=True)
    start = {"_start_from": str(start_from.resolve())} if start_from is not None else {}
    settings = {**resolved.as_json(), "_subject": asdict(subject), **start}
    write_config = partial(files.write_json, out / "config.json", settings)
    if not resume:
        write_config()
    print_line(f"Training {subject.trigger!r} on {len(examples)} photos with {config.model}, {config.steps} steps.")
    with interruptible() as interrupt, distributed.group_of(hosts, config.machines) as group:
        if group.size > 1:
            print_line(f"Each step is shared by {group.size} machines.")
        finished = run(
            family,
            examples,
            config,
            out,
            subject,
            cache,
            resume=resume,
            start_from=start_from,
            interrupt=interrupt,
            group=group,
            on_resumed=write_config,
        )
    write_pictures(out, config, subject)
    if finished.adapter is not None:
        with files.atomic_file(out / "adapter.safetensors") as part:
            shutil.copyfile(finished.adapter, part)
    return finished, requested.left_out


def run(
    family: Family,
    examples: list[Example],
    config: TrainConfig,
    out: Path,
    subject: Subject,
    cache: Path,
    *,
    resume: bool = False,
    start_from: Path | None = None,
    interrupt: Interrupt | None = None,
    group: Group = ALONE,
    on_resumed: Callable[[], object] = lambda: None,
) -> Finished:
    """Train and print the progress. Ctrl-C becomes the request to stop.

    `on_resumed` is called when the run goes on from a checkpoint: by then its settings are known to be allowed.
    """
    if config.find_subjects:
        examples = with_subjects(examples, config, family.pixel_multiple, cache)
    training = train(
        family,
        examples,
        config,
        out,
        trigger=subject.trigger,
        class_word=subject.class_word,
        cache=cache,
        resume=resume,
        start_from=start_from,
        title=subject.trigger,
        group=group,
        dinov2=place_of(DINOV2_SMALL).complete,
    )
    printer = ProgressPrinter(examples, config.steps, on_resumed)
    progress = next(training)
    while not isinstance(progress, Finished):
        printer.report(progress)
        progress = training.send(Request.STOP if interrupt is not None and interrupt.requested else None)
    printer.print_last_score()
    return progress


def load_stored(out: Path) -> StoredRun:
    """The stored settings of the run in `out`. Raises DataProblem when they cannot be read."""
    path = out / "config.json"
    if not path.is_file():
        return StoredRun({}, None, None)
    try:
        table = strict_json.loads(path.read_bytes())
        words, start = table.pop("_subject"), table.pop("_start_from", None)
        subject = Subject(str(words["trigger"]), str(words["class_word"]))
        resolved = Resolved.from_json(table)
        start_from = Path(start) if start else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataProblem(f"{path} cannot be read ({error}); the run cannot be resumed from it.") from None
    knobs = {name: getattr(resolved.config, name) for name in resolved.sources}
    return StoredRun(knobs, subject, start_from)


def write_pictures(out: Path, config: TrainConfig, subject: Subject, photos: list[Path] | None = None) -> None:
    """Write loss.png, from the newest checkpoint's losses, and samples.png, from the samples folder."""
    state, _ = checkpoint.newest(out)
    if state is not None:
        picture = sheet.chart(f"Loss, {len(state.losses)} steps on {Path(config.model).name}", state.losses)
        _write_png(picture, out / "loss.png")
    samples: dict[int, dict[int, Path]] = {}
    for path in sorted((out / "samples").glob("*-*.png")):
        step_name, _, prompt_id = path.stem.partition("-")
        samples.setdefault(int(step_name), {})[int(prompt_id)] = path
    if not samples:
        return
    columns = prompts_of(config, subject.trigger, subject.class_word)
    rows = []
    if photos:
        rows.append(sheet.Row("photos", [_open_rgb(path) for path in photos[: len(columns)]]))
    first = "as begun" if state is not None and state.start_hash else "untrained"
    for step, row in sorted(samples.items()):
        pictures = [_open_rgb(row[index]) if index in row else None for index in range(len(columns))]
        rows.append(sheet.Row(f"step {step}" if step else first, pictures))
    _write_png(sheet.sheet(f"{subject.trigger} {subject.class_word}", columns, rows), out / "samples.png")


def _print_forecast(model: Path, config: TrainConfig, out: Path, photos: int) -> None:
    """Whether the run is expected to fit into memory."""
    fit = forecast(Architecture.of(model), config, this_computer(out), photos)
    print_line(fit.sentence)
    if not fit.fits:
        print_line(f"This may well not fit. {fit.offer_words}")


def _open_rgb(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _write_png(picture: Image.Image, to: Path) -> None:
    with files.atomic_file(to) as part:
        picture.save(part, "PNG")

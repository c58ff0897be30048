"""`likeness train`: a folder of photos in, an adapter out.

OUT/adapter.safetensors   config.json   loss.png   samples.png   samples/   class_pictures/   checkpoints/<step>/
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from app import sheet
from app.terminal import together
from app.terminal.console import Interrupt, duration, interruptible, say
from core import files, strict_json
from core.adapters import file as adapter_file
from core.config.resolve import Resolved, resolve
from core.config.train import TrainConfig
from core.dataset.examples import Example, caption_sources, read_folder
from core.device.hardware import this_computer
from core.distributed.hosts import Hosts
from core.distributed.process_group import ALONE, Group
from core.errors import ConfigProblem, DataProblem, FieldProblem, ModelProblem
from core.estimate.architecture import Anatomy
from core.estimate.memory import forecast
from core.hub import catalog
from core.models.base import Family
from core.models.load import load_family
from core.training import checkpoint
from core.training.diagnosis import outliers
from core.training.events import (
    ClassPicture,
    Finished,
    Note,
    Phase,
    Request,
    Resumed,
    Sampled,
    Saved,
    Scored,
    Stepped,
)
from core.training.preview import prompts_of
from core.training.trainer import train

SAID_STEPS = 20  # about as many lines of steps as a run prints


@dataclass(frozen=True, slots=True)
class Subject:
    """The words that will mean the subject."""

    trigger: str
    class_word: str


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

    The model may lie in one of `folders`, or where core/hub/catalog.py looks by itself. With `start_from` the run has the
    layers and the ranks of that adapter file. With `hosts`, or under mlx.launch, several machines share it.

    Raises every Problem that training raises; ConfigProblem when `out` holds a run already and `resume` is not set, or
    when `hosts` cannot share the run. A run that cannot go on as asked keeps its config.json.
    """
    entry = _model(str(user.get("model", "pocket")), folders)
    if start_from is not None and start_from.is_file():  # a run that goes on does not need the file any more
        rank = adapter_file.read(start_from, catalog.family_of(entry.folder)).rank
        user = {**user, "rank": rank, "alpha": rank}
    resolved = resolve({"machines": together.machines_here(hosts), **user}, entry.defaults)
    saved = checkpoint.steps_saved(out)
    if saved and not resume:
        problem = FieldProblem("--out", f"{out} holds a run at step {saved[-1]}; add --resume, or use another folder")
        raise ConfigProblem("Nothing was trained.", [problem])
    config = resolved.config
    _check_shared(hosts, config.machines)
    examples, left_out = read_folder(photos, subject.trigger, subject.class_word)
    for each in left_out:
        say(f"Left out: {each.field} {each.message}")
    say(caption_sources(examples))
    fit = forecast(Anatomy.of(entry.folder), config, this_computer(out), len(examples))
    say(fit.sentence)
    if not fit.fits:
        say(f"This may well not fit. {fit.offer_words}")
    family = load_family(entry.folder, quantize=config.base_bits)
    out.mkdir(parents=True, exist_ok=True)
    start = {"_start_from": str(start_from.resolve())} if start_from is not None else {}
    settings = {**resolved.as_json(), "_subject": asdict(subject), **start}
    store = partial(files.write_json, out / "config.json", settings)
    if not resume:
        store()
    say(f"Training {subject.trigger!r} on {len(examples)} photos with {config.model}, {config.steps} steps.")
    with interruptible() as interrupt, together.group_of(hosts, config.machines) as group:
        if group.size > 1:
            say(f"Each step is shared by {group.size} machines.")
        more = {"resume": resume, "start_from": start_from, "interrupt": interrupt, "group": group, "on_resumed": store}
        finished = run(family, examples, config, out, subject, cache, **more)
    write_pictures(out, config, subject)
    if finished.adapter is not None:
        with files.written_whole(out / "adapter.safetensors") as part:
            shutil.copyfile(finished.adapter, part)
    return finished, left_out


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
    """Walk through a training, saying how it goes; Ctrl-C becomes the request to stop.

    `on_resumed` is called when a run goes on: all that it must not change is as it was.
    """
    words = {"trigger": subject.trigger, "class_word": subject.class_word}
    more = {"resume": resume, "start_from": start_from, "title": subject.trigger, "group": group}
    going = train(family, examples, config, out, **words, cache=cache, **more)
    every = max(1, config.steps // SAID_STEPS)
    seconds: list[float] = []
    newest: Scored | None = None
    progress = next(going)
    while not isinstance(progress, Finished):
        match progress:
            case Stepped():
                seconds = [*seconds[-19:], progress.seconds]
                if progress.step % every == 0 or progress.step in (1, config.steps) or not progress.counted:
                    left = sorted(seconds)[len(seconds) // 2] * (config.steps - progress.step)
                    skipped = "" if progress.counted else "  (not a number: this step changed nothing)"
                    say(
                        f"  step {progress.step:>5} of {config.steps}  loss {progress.loss:.4f}  "
                        f"{progress.seconds:.2f} s a step  {duration(left)} left{skipped}"
                    )
            case Phase(name=name, done=done, of=of) if done == of and of:
                say(f"  {name}: {of}")
            case Note(text=text):
                say(f"  {text}")
            case Resumed(step=step):
                on_resumed()
                say(f"  goes on from step {step}" if step else "  no checkpoint yet: begins at the first step")
            case Scored(step=step, verdict=verdict) if step:
                newest = progress
                say(f"  {verdict.title}: {verdict.words}")
            case Saved(step=step, folder=folder):
                say(f"  saved step {step}: {folder}")
            case Sampled() | ClassPicture():
                pass
        progress = going.send(Request.STOP if interrupt is not None and interrupt.asked else None)
    if newest is not None:
        say_photos(newest, examples)
    return progress


def say_photos(scored: Scored, examples: Sequence[Example]) -> None:
    """How the run stands by band of noise, and the photos whose loss stands out."""
    for words in scored.verdict.bands:
        say(f"    {words}")
    for place in sorted(outliers(scored.learned)):
        more = 100 * (scored.learned[place] - 1)
        say(f"  {examples[place].name} costs {more:.0f}% more than the other photos: see whether it shows the subject.")


def stored(out: Path) -> tuple[dict[str, Any], Subject | None, Path | None]:
    """What the user had set for the run in `out`, its subject, and what it began with; empty when there is no run."""
    path = out / "config.json"
    if not path.is_file():
        return {}, None, None
    try:
        table = strict_json.loads(path.read_bytes())
        words, start = table.pop("_subject"), table.pop("_start_from", None)
        subject = Subject(str(words["trigger"]), str(words["class_word"]))
        resolved = Resolved.from_json(table)
        start_from = Path(start) if start else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataProblem(f"{path} cannot be read ({error}); the run cannot be resumed from it.") from None
    return {name: getattr(resolved.config, name) for name in resolved.sources}, subject, start_from


def write_pictures(out: Path, config: TrainConfig, subject: Subject, photos: list[Path] | None = None) -> None:
    """loss.png and samples.png: what the checkpoints and the samples folder hold, as two pictures."""
    state, _ = checkpoint.newest(out)
    begun = state is not None and bool(state.start)
    if state is not None:
        picture = sheet.chart(f"Loss, {len(state.losses)} steps on {Path(config.model).name}", state.losses)
        _write_png(picture, out / "loss.png")
    drawn: dict[int, dict[int, Path]] = {}
    for path in sorted((out / "samples").glob("*-*.png")):
        step, _, prompt_id = path.stem.partition("-")
        drawn.setdefault(int(step), {})[int(prompt_id)] = path
    if not drawn:
        return
    columns = prompts_of(config, subject.trigger, subject.class_word)
    rows = []
    if photos:
        rows.append(sheet.Row("photos", [_opened(path) for path in photos[: len(columns)]]))
    for step, row in sorted(drawn.items()):
        pictures = [_opened(row[index]) if index in row else None for index in range(len(columns))]
        rows.append(sheet.Row(f"step {step}" if step else "untrained" if not begun else "as begun", pictures))
    _write_png(sheet.sheet(f"{subject.trigger} {subject.class_word}", columns, rows), out / "samples.png")


def _check_shared(hosts: Hosts | None, machines: int) -> None:
    """Raise ConfigProblem where the run would go on alone though there are hosts to share it."""
    if hosts is not None and hosts.taking_part(machines) < min(len(hosts.entries), 2):
        words = (
            f"names {len(hosts.entries)} machines, and they cannot share evenly the run's {machines} (the setting "
            "machines, which a run keeps); leave --hosts out, or start a new run with it"
        )
        raise ConfigProblem("Nothing was trained.", [FieldProblem("--hosts", words)])


def _model(name: str, folders: Sequence[Path]) -> catalog.Entry:
    try:
        return catalog.find(name, folders)
    except ModelProblem as problem:
        raise ConfigProblem("Some settings need another look.", [FieldProblem("model", problem.message)]) from None


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _write_png(picture: Image.Image, to: Path) -> None:
    with files.written_whole(to) as part:
        picture.save(part, "PNG")

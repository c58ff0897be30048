"""`likeness`: the studio in the browser, and the same work without it.

    likeness                          the studio
    likeness demo | train | sample | models | doctor

Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by the user and saved. Messages go to stderr; with --json the
last line of stdout is one object. Each command imports its modules when it runs: the studio never loads MLX, and
training never loads a web server.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.home import home_folder
from app.terminal import console
from core.distributed import hosts as hosts_file
from core.errors import ConfigProblem, FieldProblem, OutOfMemory, Problem, is_out_of_memory

if TYPE_CHECKING:
    from core.training.events import Finished

cli = typer.Typer(
    name="likeness",
    help="Teach an image model the likeness of your subject. Without a command: the studio, in your browser.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by you (what was done is saved).",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line of stdout.")]


@cli.callback(invoke_without_command=True)
def studio(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Folder for photos, runs and settings. Default: LIKENESS_HOME, else ~/Likeness.")
    ] = None,
    port: Annotated[
        int, typer.Option(help="Port of the studio on this computer; 0 takes any free one.", min=0, max=65535)
    ] = 7860,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser window.")] = False,
) -> None:
    """The studio at http://127.0.0.1:7860; a second start opens the one that runs."""
    if home is not None:
        os.environ["LIKENESS_HOME"] = str(home.expanduser().resolve())
    if context.invoked_subcommand is not None:
        return
    gc.disable()  # imports leave no garbage, and looking for it takes a fifth of their time
    from app.main import serve

    gc.freeze()
    gc.enable()
    try:
        raise typer.Exit(serve(home_folder(), port, not no_browser) or console.DONE)
    except Problem as problem:
        raise typer.Exit(console.print_problem(problem, as_json=False)) from None


@cli.command()
def demo(
    steps: Annotated[
        str | None, typer.Option(metavar="N", help="Steps to train; without it, a run of about three minutes.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the adapter, the sample sheet and the loss chart.")] = Path(
        "demo-out"
    ),
    json_: Json = False,
) -> None:
    """Train on the example photos and draw samples: adapter, sample sheet and loss chart, no browser."""

    def work() -> int:
        from app.terminal import out_folder
        from app.terminal.demo import run_demo
        from core.pocket import assets

        with out_folder.reserved(out, assets.EXAMPLES):
            found = run_demo(out, steps)
        if json_:
            console.print_json(found)
        return console.STOPPED if found["stopped"] else console.DONE

    raise typer.Exit(_computing(work, json_, trains=True))


@cli.command()
def train(
    photos: Annotated[
        Path, typer.Argument(metavar="PHOTOS", help="Folder of photos; a photo's caption is the .txt beside it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the adapter, samples and checkpoints.")],
    trigger: Annotated[str | None, typer.Option(help="The rare word that stands for your subject.  [sks]")] = None,
    class_word: Annotated[str | None, typer.Option(help="The kind of thing that it is, such as dog or can.")] = None,
    model: Annotated[str | None, typer.Option(help="A model's name (likeness models) or folder.  [pocket]")] = None,
    steps: Annotated[str | None, typer.Option(metavar="N", help="Optimizer steps to train.")] = None,
    config: Annotated[Path | None, typer.Option(help='JSON file of settings, such as {"rank": 8}.')] = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Start from this adapter, with its layers and ranks."),
    ] = None,
    class_images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of your own pictures of the class, to train on too.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the newest checkpoint in --out.")] = False,
    hosts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Hosts file of mlx.launch: the machines that share each step.")
    ] = None,
    json_: Json = False,
) -> None:
    """Train an adapter on a folder of photos. Ctrl-C finishes the step, saves and exits 130; --resume continues.

    A photo without a .txt beside it is captioned "a photo of TRIGGER CLASS-WORD". A.mask.png is the mask
    of A.jpg: white the subject, grey the background, black ignored.
    """

    def work() -> int:
        from app.terminal import config_file, distributed, model_list, out_folder, training

        if distributed.is_peer():
            return distributed.join(model_list.model_folders(home_folder()))
        if not photos.is_dir():
            raise _wrong("PHOTOS", f"{photos} is not a folder")
        if start_from is not None and not start_from.is_file():
            raise _wrong("--from", f"{start_from} is not a file")
        with out_folder.reserved(out, photos):
            stored = training.load_stored(out) if resume else training.StoredRun({}, None, None)
            user = stored.user | (config_file.read(config) if config is not None else {})
            folder = str(class_images.expanduser().absolute()) if class_images is not None else None
            named = (("model", model), ("steps", steps), ("class_folder", folder))
            user |= {name: value for name, value in named if value is not None}
            word = class_word or (stored.subject.class_word if stored.subject else "")
            if not word.strip():
                raise _wrong(
                    "--class-word", "is missing; name the kind of thing that your subject is, such as dog or can"
                )
            name = trigger or (stored.subject.trigger if stored.subject else "sks")
            finished, left_out = training.train_folder(
                photos,
                out,
                training.Subject(name.strip(), word.strip()),
                user,
                home_folder() / "cache",
                resume=resume,
                start_from=start_from or stored.start_from,
                folders=model_list.model_folders(home_folder()),
                hosts=hosts_file.read(hosts) if hosts is not None else None,
            )
        if finished.adapter is not None:
            console.print_line(
                f"{'Stopped' if finished.stopped else 'Done'} at step {finished.step}: {out / 'adapter.safetensors'}"
            )
        if json_:
            console.print_json(_result(finished, out, left_out))
        return console.STOPPED if finished.stopped else console.DONE

    raise typer.Exit(_computing(work, json_, trains=True))


@cli.command(hidden=True)
def join() -> None:
    """Take part in a run of another machine; mlx.launch starts this."""

    def work() -> int:
        from app.terminal import distributed, model_list

        return distributed.join(model_list.model_folders(home_folder()))

    if hosts_file.stands_in():
        hosts_file.stand_in()
    else:
        raise typer.Exit(_computing(work, as_json=False, trains=True))


@cli.command()
def sample(
    prompt: Annotated[str, typer.Option(help="The prompt to draw.")],
    out: Annotated[Path, typer.Option(help="File of the picture; its name ends in .png.")],
    model: Annotated[str, typer.Option(help="A model's name (likeness models) or folder.")] = "pocket",
    adapter: Annotated[Path | None, typer.Option(help="An adapter file to draw with.")] = None,
    strength: Annotated[float, typer.Option(help="Strength of the adapter; 0 is none.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same picture.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Sampler steps; without it, the model's own number.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels; without it, the model's own.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels; without it, the model's own.")] = None,
    base_precision: Annotated[
        str, typer.Option(help="Of the base: full, or 8-bit, 6-bit or 4-bit for less memory.")
    ] = "full",
    json_: Json = False,
) -> None:
    """Draw one picture, with or without an adapter."""

    def work() -> int:
        from app.terminal import model_list
        from app.terminal.picture import draw_to_file

        if out.suffix.lower() != ".png":
            raise _wrong("--out", f"{out} must end in .png")
        if not prompt.strip():
            raise _wrong("--prompt", "is empty; describe the picture")
        folders = model_list.model_folders(home_folder())
        recipe = draw_to_file(
            out, prompt.strip(), model, adapter, strength, seed, steps, base_precision, width, height, folders
        )
        console.print_line(f"Drawn: {out}")
        if json_:
            console.print_json({"picture": str(out), "recipe": recipe})
        return console.DONE

    raise typer.Exit(_computing(work, json_, trains=False))


@cli.command()
def models(json_: Json = False) -> None:
    """List the models: which are on disk, and what each needs."""
    from app.terminal import model_list

    try:
        found = model_list.describe_models(home_folder())
        analysis = model_list.describe_analysis_models(home_folder())
    except Problem as problem:
        raise typer.Exit(console.print_problem(problem, json_)) from None
    for line in (*model_list.format_analysis_models(analysis), *model_list.format_models(found)):
        console.print_line(line)
    if json_:
        console.print_json({"models": found, "analysis_models": analysis})


@cli.command()
def doctor(
    out: Annotated[Path, typer.Option(help="File for the report, to attach to an issue.")] = Path(
        "likeness-doctor.txt"
    ),
    again: Annotated[bool, typer.Option("--again", help="Test MLX again, although that was done before.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Time no models but the one that comes with Likeness.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show this computer as Likeness sees it, test MLX on it, time the models, and write all of that to one file."""

    def work() -> int:
        from app.terminal import model_list
        from app.terminal.doctor import examine

        report = examine(model_list.model_folders(home_folder()), home_folder(), quick=quick, show=console.print_line)
        report.write(out)
        console.print_line(f"Written to {out}. It names no files and no secrets: read it, then attach it to a report.")
        if json_:
            console.print_json(report.as_json())
        return console.DONE

    if again:
        from core.device import capabilities

        capabilities.forget()
    raise typer.Exit(_computing(work, json_, trains=False))


def main() -> None:
    """The `likeness` program."""
    cli()


def _computing(work: Callable[[], int], as_json: bool, *, trains: bool) -> int:
    """Run a command that uses MLX; returns its exit code, also for problems and Ctrl-C."""
    from app.terminal import device
    from core.device import gpu_errors

    try:
        with device.on_the_device(trains=trains):
            return work()
    except Problem as problem:
        return console.print_problem(problem, as_json)
    except Exception as error:
        if is_out_of_memory(error):
            short = OutOfMemory(f"There was not enough memory for this. {console.LESS_MEMORY}")
            return console.print_problem(short, as_json)
        device.resume_after(error)
        failed = gpu_errors.explained(error, "The last checkpoint is saved." if trains else "")
        if failed is None:
            raise
        return console.print_problem(failed, as_json)
    except KeyboardInterrupt:
        console.print_line("Stopped; the last checkpoint is saved.")
        if as_json:
            console.print_json({"error": {"code": "stopped", "message": "Stopped by the user.", "problems": []}})
        return console.STOPPED


def _wrong(field: str, message: str) -> ConfigProblem:
    return ConfigProblem("This cannot be done as asked.", [FieldProblem(field, message)])


def _result(finished: Finished, out: Path, left_out: list[FieldProblem]) -> dict[str, Any]:
    return {
        "adapter": str((out / "adapter.safetensors").resolve()) if finished.adapter is not None else None,
        "steps": finished.step,
        "final_loss": finished.final_loss,
        "held_out_loss": finished.held_out_loss,
        "seconds": round(finished.seconds, 3),
        "peak_memory_bytes": finished.peak_memory_bytes,
        "stopped": finished.stopped,
        "problems": [{"field": each.field, "message": each.message} for each in left_out],
    }


if __name__ == "__main__":
    main()

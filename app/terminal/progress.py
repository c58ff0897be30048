"""A training's progress as lines for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.terminal.console import print_line
from app.wording import duration
from core.dataset.examples import Example
from core.training.diagnosis import outliers
from core.training.events import Measured, Note, Phase, Progress, Resumed, Saved, Scored, Stepped
from core.training.gauges import gauges_of
from core.training.likeness import Drawn, comparable, figures

STEP_LINES = 20  # about as many lines of steps as a run prints
RECENT_STEPS = 20  # whose median duration predicts the time that is left


class ProgressPrinter:
    """Prints what a training yields.

    `on_resumed` is called when a run goes on from a checkpoint: by then its settings are known to be allowed.
    """

    def __init__(self, examples: Sequence[Example], steps: int, on_resumed: Callable[[], object]) -> None:
        self._examples, self._steps, self._on_resumed = examples, steps, on_resumed
        self._seconds: list[float] = []
        self._score: Scored | None = None
        self._drawn: list[Drawn] = []

    def report(self, progress: Progress) -> None:
        """Print a line for what a person wants to follow."""
        match progress:
            case Stepped():
                self._print_step(progress)
            case Phase(name=name, done=done, of=of) if done == of and of:
                print_line(f"  {name}: {of}")
            case Note(text=text):
                print_line(f"  {text}")
            case Resumed(step=step):
                self._on_resumed()
                print_line(f"  goes on from step {step}" if step else "  no checkpoint yet: begins at the first step")
            case Scored(step=step, diagnosis=diagnosis) if step:
                self._score = progress
                print_line(f"  {diagnosis.title}: {diagnosis.words}")
            case Measured():
                self._print_measures(progress.drawn)
            case Saved(step=step, folder=folder):
                print_line(f"  saved step {step}: {folder}")

    def print_last_score(self) -> None:
        """How the run does by band of noise, and the photos whose loss stands out."""
        if self._score is None:
            return
        for sentence in self._score.diagnosis.bands:
            print_line(f"    {sentence}")
        for index in sorted(outliers(self._score.learned)):
            percent = 100 * (self._score.learned[index] - 1)
            name = self._examples[index].name
            print_line(f"  {name} has a loss {percent:.0f}% above the other photos: check that it shows the subject.")

    def _print_measures(self, drawn: Drawn) -> None:
        """What the pictures show beside those of step 0, which a resumed run has not at hand."""
        self._drawn.append(drawn)
        base = comparable(self._drawn)[0]
        if base.step == 0 and drawn.step:
            gauges = gauges_of(None, None, "", figures(drawn, base))
            found = "; ".join(each.words if each.name == "leak" else f"{each.name} {each.words}" for each in gauges)
            print_line(f"  pictures of step {drawn.step}: {found}")

    def _print_step(self, progress: Stepped) -> None:
        self._seconds = [*self._seconds[1 - RECENT_STEPS :], progress.seconds]
        every = max(1, self._steps // STEP_LINES)
        if progress.step % every and progress.step not in (1, self._steps) and progress.counted:
            return
        left = sorted(self._seconds)[len(self._seconds) // 2] * (self._steps - progress.step)
        skipped = "" if progress.counted else "  (not a number: this step changed nothing)"
        print_line(
            f"  step {progress.step:>5} of {self._steps}  loss {progress.loss:.4f}  "
            f"{progress.seconds:.2f} s a step  {duration(left)} left{skipped}"
        )

"""What rank 0 sends its peers, and how they wait while it works alone."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

from core import files
from core.adapters import file as adapter_file
from core.dataset.batches import Batches
from core.distributed import channel, handoff
from core.distributed.channel import Channel
from core.distributed.peer import follow
from core.errors import DiskProblem, ModelProblem, TrainingProblem
from core.models.base import Family
from core.training import checkpoint
from core.training.encode import Material
from core.training.events import Finished, Phase, Progress, Request, Stepped
from core.training.group import Alone, MachineLost, Start
from core.training.optimizers import Tensors
from tests.core.subjects import settings, training
from tests.core.test_class_images import DRAWING

pytestmark = pytest.mark.slow


class Pending(Alone):
    """Rank 0 of two, with the messages sent to the second machine, which is lost once `lost` is set."""

    size = 2

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any], bytes]] = []
        self.lost = False

    def share_start(self, start: Start) -> None:
        handoff.send_start(self, start)

    def share_material(self, material: Material | None) -> None:
        self.material = material
        handoff.send_examples(self, material)

    def send_to_peers(self, kind: str, body: bytes = b"", **header: Any) -> None:
        self.messages.append((kind, header, body))

    def receive(self, kind: str) -> tuple[dict[str, Any], bytes]:
        found, header, body = self.messages.pop(0)
        assert found == kind
        return header, body

    def check(self) -> None:
        if self.lost:
            raise MachineLost("mini.local (machine 2 of 2) is gone: its process ended.")


def given(family: Family, photos: Path, out: Path, **knobs: Any) -> Pending:
    """The messages of a run that is stopped before its first step."""
    group = Pending()
    going = training(family, photos, out, group=group, machines=2, **knobs)
    progress = next(going)
    while not isinstance(progress, Finished):
        progress = going.send(Request.STOP if len(group.messages) == 2 else None)
    return group


def lose(group: Pending, run: Iterator[Progress], when: Callable[[Progress], bool]) -> None:
    """Walk through a run, losing the other machine at some moment."""
    for progress in run:
        group.lost = group.lost or when(progress)


def while_samples_are_drawn_after(step: int) -> Callable[[Progress], bool]:
    """The moment at which the first of them is drawn; it is said to be written at some later one."""
    taken: list[int] = []

    def now(progress: Progress) -> bool:
        taken.extend([progress.step] if isinstance(progress, Stepped) else [])
        return taken[-1:] == [step] and isinstance(progress, Phase) and progress.done == 1

    return now


def test_the_others_draw_the_batches_that_the_first_machine_draws(family: Family, photos: Path, tmp_path: Path) -> None:
    knobs = {"class_pictures": 2, "flip": True, "trigger_dropout": 0.5, "held_out": "1", "caption_dropout": 0.3}
    for number in range(3):
        Image.linear_gradient("L").resize((48, 40)).save(photos / f"{number}.mask.png")
    group = given(family, photos, tmp_path / "run", **knobs)
    start = handoff.receive_start(group, tmp_path / "theirs")
    material = handoff.receive_examples(group)
    assert material is not None
    assert material.held == []
    assert list(material.texts) == [""]

    own = group.material
    ours = Batches(own.learned, own.texts[""], settings(machines=2, **knobs), family.training_shift, own.prior)
    theirs = Batches(material.learned, material.texts[""], start.config, family.training_shift, material.prior)
    for step in range(1, 5):
        for micro in (0, 1):
            one, other = ours.batch(step, micro), theirs.batch(step, micro)
            assert (one.photos, one.grid) == (other.photos, other.grid)
            assert one.conditioning.keys() == other.conditioning.keys()
            arrays = [(one.clean_BLC, other.clean_BLC), (one.noise_BLC, other.noise_BLC), (one.sigma_B, other.sigma_B)]
            arrays += [(one.weight_B, other.weight_B), (one.weight_BL, other.weight_BL)]
            arrays += [(one.conditioning[name], other.conditioning[name]) for name in one.conditioning]
            assert all(mx.array_equal(ours_, theirs_) for ours_, theirs_ in arrays)


def test_the_settings_beside_an_adapter_to_begin_with_reach_the_others(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    layer = "transformer.transformer_blocks.1.attn.to_q"
    pair = {f"{layer}.lora_A.weight": mx.ones((2, 32)), f"{layer}.lora_B.weight": mx.ones((32, 2))}
    mx.save_safetensors(str(tmp_path / "theirs.safetensors"), pair)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8}', encoding="utf-8")
    group = given(family, photos, tmp_path / "run", start_from=tmp_path / "theirs.safetensors")
    start = handoff.receive_start(group, tmp_path / "peer")
    assert start.start_from == tmp_path / "peer" / "theirs.safetensors"
    factors = adapter_file.read(start.start_from, "flux1").factors
    assert factors["transformer_blocks.1.attn.to_q"][1][0, 0].item() == 4.0


def test_another_base_or_another_training_assistant_is_refused(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = given(family, photos, tmp_path / "run")
    kind, header, body = group.messages[0]
    for base, words in (
        ({"transformer": "another"}, "is not the one that the first machine has"),
        ({**header["base"], "assistant": "another"}, "has another training assistant than the first machine, or none"),
    ):
        group.messages = [(kind, {**header, "base": base}, body)]
        with pytest.raises(ModelProblem, match=words):
            follow(group, lambda _: family)


def test_a_machine_that_is_lost_while_class_pictures_are_drawn_ends_the_run(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    group = Pending()
    run = training(family, photos, tmp_path / "run", group=group, machines=2, class_pictures=8)
    with pytest.raises(TrainingProblem, match=r"^mini\.local .* its process ended\. Resume the run with all machines"):
        lose(
            group, run, lambda progress: isinstance(progress, Phase) and (progress.name, progress.done) == (DRAWING, 1)
        )
    assert len(list((tmp_path / "run" / "class_pictures").iterdir())) == 1
    assert not checkpoint.steps_saved(tmp_path / "run")


def test_a_machine_that_is_lost_while_samples_are_drawn_leaves_the_step_saved(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    group = Pending()
    knobs = {"machines": 2, "save_every": 100, "sample_every": 3, "sample_prompts": ("a", "b", "c"), "steps": 50}
    run = training(family, photos, tmp_path / "run", group=group, **knobs)
    with pytest.raises(TrainingProblem, match=r"^mini\.local .* Step 3 is saved\. Resume the run with all machines"):
        lose(group, run, while_samples_are_drawn_after(3))
    assert checkpoint.newest(tmp_path / "run")[0].step == 3


def test_a_full_disk_does_not_hide_which_machine_was_lost(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = files.flush_file

    def flush(path: Path) -> None:
        if path.name == checkpoint.OPTIMIZER:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        exact(path)

    monkeypatch.setattr(files, "flush_file", flush)
    group = Pending()
    run = training(family, photos, tmp_path / "run", group=group, machines=2, save_every=100, sample_every=3, steps=50)
    words = (
        r"^mini\.local .* its process ended\. .*/3 could not be written: the disk is full\. Make room, then resume\.$"
    )
    with pytest.raises(DiskProblem, match=words):
        lose(group, run, while_samples_are_drawn_after(3))
    assert not checkpoint.steps_saved(tmp_path / "run")


def test_the_others_end_when_the_run_is_stopped_before_its_first_step(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    group = Pending()
    going = training(family, photos, tmp_path / "run", group=group, machines=2)
    progress = next(going)
    while not isinstance(progress, Finished):
        progress = going.send(Request.STOP)
    assert [kind for kind, _, _ in group.messages] == ["start", "examples"]
    follow(group, lambda _: family)
    assert not group.messages


def test_a_loss_that_is_not_a_number_on_another_machine_counts_on_none(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []

    def summed(loss: mx.array, draws: mx.array, g: Tensors) -> tuple[mx.array, mx.array, Tensors]:
        taken.append(True)
        return loss + (mx.nan if len(taken) > 2 else 0.0), draws, g

    group = Pending()
    monkeypatch.setattr(group, "sum", summed, raising=False)
    run = training(family, photos, tmp_path / "run", group=group, machines=2, steps=100)
    with pytest.raises(TrainingProblem, match="not a number in 3 steps in a row, the last at step 5"):
        list(run)
    before, after = (checkpoint.load(tmp_path / "run" / "checkpoints" / str(step)) for step in (2, 4))
    assert all(mx.array_equal(before.parameters[name], value) for name, value in after.parameters.items())
    assert after.losses[2:] == [None, None]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Channel, Channel]]:
    """A connection whose ends lose patience after a second."""
    monkeypatch.setattr(channel, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(channel, "SILENCE_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as door:
        one = Channel(socket.create_connection(door.getsockname()))
        other = Channel(door.accept()[0])
    yield one, other
    one.close()
    other.close()


def test_however_long_the_first_machine_works_alone_the_others_wait(
    ends: tuple[Channel, Channel], family: Family, photos: Path, tmp_path: Path
) -> None:
    first, other = ends
    first.begin()
    other.begin()
    found: list[tuple[dict[str, Any], bytes]] = []
    waiting = threading.Thread(target=lambda: found.append(other.receive("request")))
    waiting.start()
    began = time.monotonic()
    for number in range(100):  # scoring, drawing, saving, for longer than anybody is silent
        list(training(family, photos, tmp_path / str(number), steps=2, held_out="1", score_every=1, sample_every=1))
        if time.monotonic() - began > 2.5:
            break
    assert waiting.is_alive()
    first.send("request", request=0)
    waiting.join(1.0)
    assert found == [({"kind": "request", "request": 0}, b"")]


def test_a_machine_that_says_nothing_is_lost(ends: tuple[Channel, Channel]) -> None:
    _, other = ends
    other.begin()
    began = time.monotonic()
    with pytest.raises(channel.Gone, match="it sent nothing for"):
        other.receive("request")
    assert 0.5 < time.monotonic() - began < 5
    assert other.lost


def test_while_mlx_connects_the_machines_silence_is_no_loss(ends: tuple[Channel, Channel]) -> None:
    _, other = ends
    other.be_patient(60)
    other.begin()
    time.sleep(2.5)
    assert not other.lost
    other.be_patient(0)
    with pytest.raises(channel.Gone, match="it sent nothing for"):
        other.receive("request")

"""Macs, with the system's answers prepared: limits, conditions, errors of the GPU, sleep, one process on the GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.device import conditions, gpu_errors, gpu_lock, metal
from core.device.conditions import System
from core.device.identity import Identity
from core.errors import GpuProblem, is_out_of_memory

GIB = 2**30
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("memory", "granted"), [(8, 16 / 3), (16, 32 / 3), (24, 16), (36, 27), (128, 96), (16, 16)])
def test_limits_stay_below_what_macos_grants_and_never_wire_all_of_it(memory: float, granted: float) -> None:
    found = metal.limits(int(memory * GIB), int(granted * GIB))
    assert found.memory <= 0.9 * granted * GIB
    assert found.wired <= 0.8 * found.memory
    if memory < 32:
        assert found.wired <= 0.6 * found.memory
    assert found.cache < found.memory / 4


def mac(**answers: str) -> System:
    """A Mac whose programs answer so; a word of the command names the answer."""

    def ask(command: Sequence[str]) -> str:
        return next((text for word, text in answers.items() if word in " ".join(command).replace(".", "_")), "")

    return System("Darwin", ask)


AT_EASE = {
    "batt": "Now drawing from 'AC Power'\n -InternalBattery-0 (id=123)\t100%; charged; 0:00 remaining",
    "therm": "Note: No thermal warning level has been recorded\nCPU_Speed_Limit = 100\n",
    "pressure": "1",
    "pmset -g": " lowpowermode         0\n sleep 1",
    "ioreg": "",
}


def test_a_mac_at_ease_is_not_talked_about() -> None:
    assert conditions.sentences(mac(**AT_EASE)) == []
    assert conditions.sentences(mac()) == [], "nor one whose programs are missing"
    assert conditions.sentences(System("Linux", lambda command: "Battery Power")) == []


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"batt": "Now drawing from 'Battery Power'\n -InternalBattery-0\t63%; discharging"}, "battery (63% left)"),
        ({"batt": "Now drawing from 'Battery Power'"}, "on its battery: training"),
        ({"pmset -g": " lowpowermode         1"}, "Low Power Mode is on"),
        ({"therm": "CPU_Scheduler_Limit = 100\nCPU_Speed_Limit = 62"}, "hot and runs at 62%"),
        ({"therm": "Thermal warning level: 2"}, "hot and slows down"),
        ({"pressure": "2"}, "is short of memory"),
        ({"pressure": "4"}, "very short of memory"),
        ({"ioreg": '+-o AppleCLCD2\n "DisplayAttributes" = {}'}, "A display uses the same GPU"),
    ],
)
def test_each_condition_is_named_with_what_it_means(answers: dict[str, str], words: str) -> None:
    (sentence,) = conditions.sentences(mac(**{**AT_EASE, **answers}))
    assert words in sentence
    assert sentence.endswith(".")


METAL = "[METAL] Command buffer execution failed: {}."


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)", "watchdog"),
        ("Caused GPU Hang Error (00000003:kIOGPUCommandBufferCallbackErrorHang)", "watchdog"),
        ("Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)", "timeout"),
        ("Caused GPU Address Fault Error (0000000b:kIOGPUCommandBufferCallbackErrorPageFault)", "page fault"),
        ("Invalid Resource (00000009:kIOGPUCommandBufferCallbackErrorInvalidResource)", "page fault"),
        ("Ignored (for causing prior/excessive GPU errors) (00000004:kIOGPUCommandBuffer...SubmissionsIgnored)",
         "device lost"),
        ("Internal Error (0000000e:Internal Error)", "other"),
    ],
)  # fmt: skip
def test_errors_of_the_gpu_are_told_apart(words: str, name: str) -> None:
    error = RuntimeError(METAL.format(words))
    kind = gpu_errors.kind_of(error)
    assert kind is not None
    assert (kind.name, kind.retries) == (name, True)
    problem = gpu_errors.explained(error, "Step 40 is saved.")
    assert problem is not None
    assert problem.message == f"{kind.means} Step 40 is saved. {kind.helps}"
    assert not is_out_of_memory(error)


def test_too_little_memory_and_other_errors_are_not_the_gpus() -> None:
    short = RuntimeError(METAL.format("Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"))
    assert is_out_of_memory(short)
    for error in (
        short,
        RuntimeError("[matmul] Last dimension of first input"),
        OSError("timed out"),
        ValueError("Hang"),
    ):
        assert gpu_errors.kind_of(error) is None
        assert gpu_errors.explained(error) is None


def test_command_buffers_become_smaller_with_each_failure() -> None:
    sizes = []
    for failures in range(4):
        environment: dict[str, str] = {}
        sentence = gpu_errors.use_smaller_buffers(failures, environment)
        assert bool(sentence) == bool(failures) == bool(environment)
        sizes.append(int(environment.get("MLX_MAX_OPS_PER_BUFFER", 20)))
    assert sizes[0] > sizes[1] > sizes[2] == sizes[3]


def test_a_training_mac_stays_awake_for_as_long_as_its_process_lives() -> None:
    assert conditions.awake_command(12, "Darwin", lambda name: None) == ["/usr/bin/caffeinate", "-i", "-w", "12"]
    inhibit = conditions.awake_command(12, "Linux", lambda name: f"/usr/bin/{name}")
    assert inhibit[0] == "/usr/bin/systemd-inhibit"
    assert inhibit[-1] == "--pid=12"
    assert conditions.awake_command(12, "Linux", lambda name: None) == []
    assert conditions.awake_command(12, "Windows", lambda name: name) == []
    with conditions.awake("Darwin", lambda name: None):
        pass  # caffeinate is not here: nothing happens


def test_one_process_at_a_time_computes_on_a_macs_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    held = "with gpu_lock(device='metal'): print(1, flush=True); input()"
    code = f"from core.device.gpu_lock import gpu_lock\n{held}"
    command = [sys.executable, "-P", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        with pytest.raises(GpuProblem, match=rf"Another process of Likeness \({other.pid}\) uses the GPU"):
            gpu_lock.gpu_lock(lambda sentence: False, device="metal").__enter__()
        words: list[str] = []

        def waiting(sentence: str) -> bool:
            words.append(sentence)
            if len(words) == 2:
                other.communicate("\n", timeout=30)
            return True

        with gpu_lock.gpu_lock(waiting, device="metal", wait_seconds=0.0):
            assert (tmp_path / "metal.lock").read_text() == str(os.getpid())
    assert len(words) == 2
    assert "Waiting until it has finished" in words[0]
    with gpu_lock.gpu_lock(device="cpu"), gpu_lock.gpu_lock(device="cpu"), gpu_lock.gpu_lock(device="cuda"):
        pass


@pytest.mark.parametrize(
    ("chip", "lacks"),
    [("Apple M1", True), ("Apple M2 Max", True), ("Apple M3", False), ("Apple M10", False), ("Apple M1 Ultra", True)],
)
def test_chips_without_bfloat16_are_known(chip: str, lacks: bool) -> None:
    assert Identity("metal", chip, "macOS", "1").lacks_bfloat16 == lacks

"""A drawing whose picture is not finite ends as a failure that names the adapter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from starlette.testclient import TestClient

from tests.app.conftest import ROOT

LAYER = "transformer.transformer_blocks.1.attn.to_q"


@pytest.mark.slow
def test_a_drawing_that_is_not_finite_fails_by_the_adapters_name(
    client: TestClient, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    file = tmp_path / "wild.safetensors"
    a_RI, b_OR = (mx.full(shape, 1e30, dtype=mx.bfloat16) for shape in ((2, 64), (64, 2)))
    mx.save_safetensors(str(file), {f"{LAYER}.lora_A.weight": a_RI, f"{LAYER}.lora_B.weight": b_OR})
    brought = client.put("/api/adapters/wild.safetensors?model=tiny", content=file.read_bytes()).json()
    request = {"model": "tiny", "prompt": "a can", "adapters": [{"id": brought["id"], "strength": 0.5}]}
    job = client.post("/api/pictures", json=request).json()["job_id"]

    worker = [sys.executable, "-P", "-m", "app.worker", "--home", str(tmp_path / "home"), "--lane", "memory"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(worker, env=environment, cwd=tmp_path, timeout=240, check=True)
    ended = client.get(f"/api/jobs/{job}").json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "picture")
    assert "The picture is not finite: with wild at strength 0.5 the model" in ended["error"]["message"]
    assert client.get("/api/pictures").json() == []

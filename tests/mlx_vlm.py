"""A package index with a tiny mlx-vlm in it, whose server answers like the real one, and a tiny model for it to serve.

The wheel is installed by real pip from a folder (PIP_FIND_LINKS). Its server checks its key, loads the model that it
was started with, and describes a photo by what it was sent. A model whose config.json says so trips it.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import pytest

from core.captioners.environment import VERSION
from core.captioners.platforms import Machine
from core.hub.caption_model import MODEL

MAC = Machine("Darwin", "arm64", "15.5", "metal", 12 * 2**30)
PID_FILE = "TINY_VLM_PID_FILE"  # where the server writes its process id, for a test to see that it ended
SERVER = """
import argparse, base64, json, os, re, struct, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

parser = argparse.ArgumentParser()
for name in ("host", "model", "log-level"):
    parser.add_argument("--" + name)
parser.add_argument("--port", type=int)
given = parser.parse_args()
kind = json.load(open(os.path.join(given.model, "config.json")))["model_type"]
if "TINY_VLM_PID_FILE" in os.environ:
    open(os.environ["TINY_VLM_PID_FILE"], "w").write(str(os.getpid()))
if kind == "hangs":
    time.sleep(600)
if kind == "broken":
    print("INFO:     Waiting for application startup.", flush=True)
    try:
        raise ValueError(f"Model type {kind} not supported.")
    except ValueError as error:
        raise RuntimeError("400: Failed to load model.")


def caption(body):
    words, image = body["messages"][0]["content"]
    jpeg = base64.b64decode(image["image_url"]["url"].partition("base64,")[2])
    frame = next(i for i in range(len(jpeg)) if jpeg[i] == 0xFF and jpeg[i + 1] in (0xC0, 0xC2))
    height, width = struct.unpack(">HH", jpeg[frame + 5 : frame + 9])
    name = re.search("subject '([^']*)'", words["text"])[1]
    offline = os.environ.get("HF_HUB_OFFLINE") == os.environ.get("TRANSFORMERS_OFFLINE") == "1"
    return f"A photo of {name}, {width} by {height}, seen {'offline' if offline else 'online'}."


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"status": "healthy", "loaded_model": given.model} if self.path == "/health" else None)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if kind == "dies":
            print("RuntimeError: out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        if self.path != "/v1/chat/completions" or body["model"] != given.model:
            self.answer(None)
            return
        message = {"role": "assistant", "content": caption(body), "reasoning": None, "tool_calls": []}
        self.answer({"model": body["model"], "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})

    def answer(self, found):
        status = 200 if found else 404
        if self.headers.get("Authorization") != "Bearer " + os.environ["MLX_VLM_SERVER_API_KEY"]:
            status, found = 401, {"detail": "Invalid API key"}
        content = json.dumps(found or {"detail": "Not Found"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


HTTPServer((given.host, given.port), Handler).serve_forever()
"""


def make_wheel(folder: Path, version: str = VERSION) -> Path:
    """The wheel in a folder that pip can search."""
    info = f"mlx_vlm-{version}.dist-info"
    content = {
        "mlx_vlm/__init__.py": f"__version__ = {version!r}\n",
        "mlx_vlm/server/__init__.py": "",
        "mlx_vlm/server/__main__.py": SERVER,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: mlx-vlm\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*content, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"mlx_vlm-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in content.items():
            wheel.writestr(name, text)
    return path


@contextmanager
def package_index(folder: Path) -> Iterator[Path]:
    """A folder is the only place where pip finds packages, by settings as a user would make them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(folder))
        yield folder


def make_repository(folder: Path, kind: str = "tiny") -> Path:
    """A vision-language model as its repository holds it, with much beside it that nobody needs."""
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), {"weight": mx.zeros((64, 64))})
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    for name in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    for name in ("chat_template.jinja", "README.md", "modeling.py", "onnx/model.onnx", "consolidated.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not much")
    return folder


def put_into_cache(hub: Path, kind: str = "tiny") -> Path:
    """The model's folder, as if it had been downloaded to this cache of the hub."""
    folder = hub / f"models--{MODEL.repo.replace('/', '--')}" / "snapshots" / ("0" * 40)
    shutil.rmtree(folder, ignore_errors=True)
    return make_repository(folder, kind)

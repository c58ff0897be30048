"""An installed wheel holds all that it needs and works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SHOW_THE_FIRST_PAGE = """
import sys
from pathlib import Path
import app.main, core
from core.hub import catalog
from core.pocket import assets
from starlette.testclient import TestClient

assert Path(core.__file__).is_relative_to(sys.argv[1]), core.__file__
assert catalog.find("pocket").on_disk and assets.EXAMPLES.is_dir()
browser = TestClient(app.main.create_app(Path(sys.argv[2]), with_jobs=False), base_url="http://127.0.0.1")
for address in ("/", "/static/css/base.css"):
    assert browser.get(address).status_code == 200, address
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_it_holds_weights_examples_pages_and_scripts_and_nothing_of_the_workshop(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    needed = [
        "core/pocket/weights/model_index.json",
        "core/pocket/weights/transformer/diffusion_pytorch_model.safetensors",
        "core/pocket/weights/tokenizer/tokenizer.json",
        "app/static/vendor/vendor.json",
        *(f"app/templates/{path.name}" for path in (ROOT / "templates").glob("*.html")),
        *(f"app/static/css/{path.name}" for path in (ROOT / "static" / "css").glob("*.css")),
        *(f"core/pocket/examples/{path.name}" for path in (ROOT / "core" / "pocket" / "examples").iterdir()),
    ]
    assert not set(needed) - set(names)
    assert {name.split("/")[0] for name in names if not name.startswith("likeness-")} == {"app", "core"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_works_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    (elsewhere / "core").mkdir(parents=True)  # a folder of the same name must not get in the way
    (elsewhere / "core" / "__init__.py").write_text("raise ImportError('the wrong core')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHOW_THE_FIRST_PAGE, str(site), str(tmp_path / "home")],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr

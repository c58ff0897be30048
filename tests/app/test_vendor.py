"""What is vendored is what its record says: name, version, licence, and the hash of every file."""

from __future__ import annotations

import hashlib
import json

from app.resources import folder

VENDOR = folder("static") / "vendor"
RECORD = json.loads((VENDOR / "vendor.json").read_text(encoding="utf-8"))


def test_every_vendored_file_is_recorded_with_its_hash() -> None:
    recorded = {name: digest for package in RECORD for name, digest in package["files"].items()}
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "vendor.json"
    }
    assert found == recorded


def test_every_package_brings_its_licence() -> None:
    for package in RECORD:
        folder_name = f"{package['name']}-{package['version']}"
        assert package["licence"]
        assert package["what_for"]
        assert package["integrity"].startswith("sha512-")
        assert f"{folder_name}/LICENSE" in package["files"]


def test_templates_use_the_vendored_version() -> None:
    text = (folder("templates") / "run.html").read_text(encoding="utf-8")
    for package in RECORD:
        assert f"/static/vendor/{package['name']}-{package['version']}/" in text

"""What goes into the nodes of our ComfyUI workflows and comes out of them, by ComfyUI's own source, as JSON.

    python -m bench.comfy_nodes CLONE > tests/comfy_nodes.json

    node    links: {name: type}    widgets: [name]    outputs: [type]    seeds: widgets with "control after generate"

The source is parsed and never run, so it needs neither torch nor a GPU: classes with INPUT_TYPES and RETURN_TYPES, and
those with a schema. Inputs keep their order, which is that of the widgets' values in a workflow's file.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.adapters.comfy_workflow import NODES

SOURCES = ("nodes.py", "comfy_extras/*.py")
LINKED = {"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "NOISE", "GUIDER", "SAMPLER", "SIGMAS"}
SEED_MODE = "control_after_generate"


def nodes(clone: Path) -> dict[str, dict[str, Any]]:
    """The nodes of NODES that a clone has."""
    found = {}
    for pattern in SOURCES:
        for path in sorted(clone.glob(pattern)):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
            for name in classes.keys() & NODES.keys():
                found[name] = _of_schema(classes[name]) or _of_types(_with_bases(classes[name], classes))
    return {name: found[name] for name in NODES if name in found}


def _with_bases(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> list[ast.stmt]:
    """The statements of a class, then those of its bases in the same file."""
    bases = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    return [*node.body, *(statement for base in bases for statement in _with_bases(base, classes))]


def _described(inputs: Iterator[tuple[str, str, bool]], outputs: list[str]) -> dict[str, Any]:
    given = list(inputs)
    return {
        "links": {name: of for name, of, _ in given if of in LINKED},
        "widgets": [name for name, of, _ in given if of not in LINKED],
        "outputs": outputs,
        "seeds": [name for name, _, seeded in given if seeded],
    }


def _of_types(body: list[ast.stmt]) -> dict[str, Any]:
    """A class with INPUT_TYPES: {"required": {name: (type, {...})}, "optional": {...}}."""
    method = next(each for each in body if isinstance(each, ast.FunctionDef) and each.name == "INPUT_TYPES")
    returned = next(each.value for each in ast.walk(method) if isinstance(each, ast.Return))
    assigned = [each for each in body if isinstance(each, ast.Assign)]
    returned_types = next(each.value for each in assigned if ast.unparse(each.targets[0]) == "RETURN_TYPES")
    outputs = [_type(each) for each in returned_types.elts] if isinstance(returned_types, ast.Tuple) else []
    return _described(_inputs_of(returned), outputs)


def _inputs_of(returned: ast.expr | None) -> Iterator[tuple[str, str, bool]]:
    groups = returned if isinstance(returned, ast.Dict) else ast.Dict([], [])
    for group, inputs in zip(groups.keys, groups.values, strict=True):
        if _text(group) not in ("required", "optional") or not isinstance(inputs, ast.Dict):
            continue
        for name, value in zip(inputs.keys, inputs.values, strict=True):
            first = value.elts[0] if isinstance(value, ast.Tuple) else value
            yield _text(name), _type(first), SEED_MODE in ast.unparse(value)


def _of_schema(node: ast.ClassDef) -> dict[str, Any] | None:
    """A class with define_schema: io.Schema(inputs=[io.Model.Input("model"), ...], outputs=[io.Model.Output()])."""
    schema = next(
        (each for each in ast.walk(node) if isinstance(each, ast.Call) and ast.unparse(each.func) == "io.Schema"), None
    )
    if schema is None:
        return None
    lists = {word.arg: word.value.elts for word in schema.keywords if isinstance(word.value, ast.List)}
    inputs = (
        (_text(call.args[0]), _kind(call), f"{SEED_MODE}=True" in ast.unparse(call))
        for call in lists.get("inputs", [])
        if isinstance(call, ast.Call)
    )
    return _described(inputs, [_kind(call) for call in lists.get("outputs", []) if isinstance(call, ast.Call)])


def _kind(call: ast.Call) -> str:
    """ "MODEL" of io.Model.Input(...)."""
    return ast.unparse(call.func).split(".")[1].upper()


def _type(value: ast.expr) -> str:
    """ "MODEL" of "MODEL" or IO.MODEL; anything else, such as a list of choices, is a widget."""
    return _text(value) if isinstance(value, ast.Constant) else ast.unparse(value).rpartition(".")[2]


def _text(value: ast.expr | None) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("clone", type=Path, help="a clone of https://github.com/Comfy-Org/ComfyUI")
    clone = parser.parse_args().clone.resolve()
    version = re.findall(r'"(.+)"', (clone / "comfyui_version.py").read_text(encoding="utf-8"))[0]
    print(json.dumps({"ComfyUI": version, "nodes": nodes(clone)}, indent=1))


if __name__ == "__main__":
    main()

"""Which program reads which adapter, the lines that use it, and ComfyUI's workflows against ComfyUI's own nodes."""

from __future__ import annotations

import ast
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import comfy_nodes
from core.adapters import programs
from core.adapters.comfy_workflow import ENCODER_TYPES, NODES, USUAL_FILES, ModelFiles, workflow
from core.adapters.key_maps import FAMILIES
from core.adapters.programs import PROGRAMS, AdapterUse
from core.hub.catalog import PIPELINES
from core.hub.registry import KNOWN

LIST = json.loads((Path(__file__).parents[1] / "comfy_nodes.json").read_text(encoding="utf-8"))["nodes"]
PROMPT = 'a photo of sks can\'s "best" side'


def use_of(model: str) -> AdapterUse:
    known = KNOWN[model]
    drawn = KNOWN[known.draws_with or model]
    return AdapterUse(
        family=PIPELINES[known.pipeline],
        model=drawn.name,
        model_title=drawn.title,
        own_folder="",
        source=drawn.repo,
        pipeline=drawn.pipeline,
        trigger="sks can",
        prompt=PROMPT,
        strength=0.85,
        steps=int(drawn.drawing["steps"]),
        guidance=float(drawn.drawing["guidance"]),
        side_px=1024,
        file="My can's/cup-Run-1-300.safetensors",
    )


READ = [
    (program, model)
    for program in PROGRAMS
    for model in KNOWN
    if PROGRAMS[program].form_for(use_of(model).family, published=True)
]


def test_each_program_gets_the_form_that_all_its_versions_read() -> None:
    forms = {
        name: {family: program.form_for(family, published=True) for family in FAMILIES}
        for name, program in PROGRAMS.items()
    }
    in_kohyas = {"flux2": "kohya", "z_image": "kohya", "flux3": ""}
    assert forms["comfyui"] == in_kohyas | {"flux1": "diffusers", "chroma": "diffusers"}
    assert forms["forge"] == in_kohyas | {"flux1": "diffusers", "chroma": "kohya"}
    assert set(forms["diffusers"].values()) == {"diffusers"}
    assert [family for family, form in forms["mflux"].items() if not form] == ["chroma"]
    assert [family for family, form in forms["draw_things"].items() if not form] == ["chroma", "flux3"]
    assert programs.unread("flux1", published=True) == ""
    assert programs.unread("chroma", published=True).startswith("Draw Things and mflux read no adapters of Chroma")
    assert "other sizes" in programs.unread("flux1", published=False)
    assert "diffusers" not in programs.unread("flux1", published=False)


@pytest.mark.parametrize(("program", "model"), READ)
def test_three_lines_use_an_adapter(program: str, model: str) -> None:
    use = use_of(model)
    lines = PROGRAMS[program].lines(use)
    text = "\n".join(lines)
    assert len(lines) == 3
    assert all("\n" not in line and line.strip() for line in lines)
    assert ("85%" if program == "draw_things" else "0.85") in text
    if program == "diffusers":
        names = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
        assert {PROMPT, "cup-Run-1-300.safetensors", "My can's", 0.85, KNOWN[use.model].repo} <= names
    elif program == "mflux":
        words = shlex.split(text)
        assert words[words.index("--lora-paths") + 1] == use.file
        assert words[words.index("--lora-scales") + 1] == "0.85"
        assert words[words.index("--prompt") + 1] == PROMPT
    else:
        assert PROMPT in text


def test_the_nodes_are_comfyuis() -> None:
    lists = ("widgets", "outputs", "seeds")
    ours = {
        name: {"links": dict(node.links)} | {each: list(getattr(node, each)) for each in lists}
        for name, node in NODES.items()
    }
    assert ours == LIST


@pytest.mark.parametrize("model", [model for program, model in READ if program == "comfyui"])
def test_a_workflow_draws_with_the_adapter_on_its_model(model: str) -> None:
    use = use_of(model)
    graph = workflow(use, "people/cup.safetensors")
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert graph["last_node_id"] == len(nodes) == max(nodes)
    for number, origin, slot, target, target_slot, kind in graph["links"]:
        assert NODES[nodes[origin]["type"]].outputs[slot] == kind
        assert number in nodes[origin]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][target_slot] == {
            "name": list(NODES[nodes[target]["type"]].links)[target_slot], "type": kind, "link": number
        }  # fmt: skip
    for node in nodes.values():
        kind = NODES[node["type"]]
        assert [each["name"] for each in node["inputs"]] == list(kind.links)
        assert len(node["widgets_values"]) == len(kind.widgets) + len(kind.seeds)
    assert places_overlap(graph) == []

    reached, todo = set(), [node["id"] for node in nodes.values() if node["type"] == "SaveImage"]
    while todo:
        reached.add(todo[-1])
        target = todo.pop()
        todo += [link[1] for link in graph["links"] if link[3] == target]
    assert reached == nodes.keys()  # nothing is left over

    values = {node["type"]: node["widgets_values"] for node in reversed(graph["nodes"])}
    files = USUAL_FILES[use.model]
    assert values["LoraLoaderModelOnly"] == ["people/cup.safetensors", 0.85]
    assert values["UNETLoader"][0] == files.transformer
    loader = "DualCLIPLoader" if use.family == "flux1" else "CLIPLoader"
    assert values[loader] == [*files.encoders, ENCODER_TYPES[use.family], "default"]
    assert values["CLIPTextEncode"] == [PROMPT]
    steps = values["Flux2Scheduler"][0] if use.family == "flux2" else values["KSampler"][2]
    assert steps == use.steps
    cfg = values["CFGGuider"][0] if use.family == "flux2" else values["KSampler"][3]
    assert cfg == (1.0 if use.model in programs.GUIDED else use.guidance)
    assert values.get("FluxGuidance") == ([use.guidance] if use.model in programs.GUIDED else None)


def places_overlap(graph: dict[str, Any]) -> list[int]:
    places = [tuple(node["pos"]) for node in graph["nodes"]]
    return [number for number, place in enumerate(places) if place in places[:number]]


def test_a_workflow_names_the_files_that_are_there() -> None:
    mine = ModelFiles("mine/klein.safetensors", ("qwen.safetensors",), "vae2.safetensors")
    graph = workflow(replace(use_of("flux2-klein-4b"), strength=1.0), "a.safetensors", mine, seed=7)
    values = {node["type"]: node["widgets_values"] for node in graph["nodes"]}
    assert (values["UNETLoader"][0], values["VAELoader"][0]) == (mine.transformer, mine.vae)
    assert values["CLIPLoader"][0] == "qwen.safetensors"
    assert values["RandomNoise"] == [7, "fixed"]


def test_nodes_are_read_from_both_kinds_of_classes_without_running_them(tmp_path: Path) -> None:
    (tmp_path / "comfy_extras").mkdir()
    (tmp_path / "nodes.py").write_text(
        "raise SystemExit\n"
        "class Base:\n    RETURN_TYPES = ('MODEL',)\n"
        "class LoraLoaderModelOnly(Base):\n    @classmethod\n    def INPUT_TYPES(s):\n"
        "        return {'required': {'model': ('MODEL',), 'lora_name': (names(),), 'strength_model': ('FLOAT', {})}}\n"
    )
    (tmp_path / "comfy_extras" / "nodes_new.py").write_text(
        "class RandomNoise(io.ComfyNode):\n    def define_schema(cls):\n"
        "        return io.Schema(inputs=[io.Int.Input('noise_seed', control_after_generate=True)],\n"
        "                         outputs=[io.Noise.Output()])\n"
    )
    assert comfy_nodes.nodes(tmp_path) == {name: LIST[name] for name in ("LoraLoaderModelOnly", "RandomNoise")}

"""Other programs that draw with our adapters: the form of the file that each reads, its folder, and how it is used.

    program        reads                                             form of the file
    ComfyUI        FLUX.1, Chroma                                    diffusers
                   FLUX.2, Z-Image                                   kohya: older versions miss layers of the other form
    Forge          FLUX.1                                            diffusers
                   FLUX.2, Z-Image, Chroma (in Forge Neo)            kohya
    Draw Things    FLUX.1, FLUX.2, Z-Image                           diffusers
    mflux          FLUX.1, FLUX.2, FLUX.3, Z-Image                   diffusers
    diffusers      all, of any size                                  diffusers

diffusers: core/adapters/diffusers.py; kohya: core/adapters/kohya.py. `Program.known_from` says in which versions a row
was checked. Plain Python, for the web process too.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from core.adapters.key_maps import TITLES

DIFFUSERS, KOHYA = "diffusers", "kohya"
FORMS = {DIFFUSERS: "diffusers’ names", KOHYA: "kohya’s names"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUse:
    """An adapter that is drawn with: what a program's lines name. Strings are as the user wrote them, unquoted."""

    family: str
    model: str  # the known model to draw with, by name: of a model of the user's own, the one that it is like
    model_title: str
    own_folder: str  # the folder's name of a model of the user's own; empty for a known model
    source: str  # what diffusers loads: a repository, or a path
    pipeline: str  # diffusers' class
    trigger: str  # with the class word
    prompt: str
    strength: float
    steps: int
    guidance: float  # as in our own drawing: 1 is none, except where the model takes it as an input
    side_px: int
    file: str  # the adapter's path, or its name where it will lie beside the reader
    workflow: str = ""  # where ComfyUI's workflow is, in words; empty without one

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return PurePath(self.file).stem

    @property
    def guidance_is_input(self) -> bool:
        """Whether guidance is an input of the network, without a second pass."""
        return self.model in GUIDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program."""

    name: str
    title: str
    forms: Mapping[str, str]  # the form of the file that it reads, by family; it reads no others
    folder: str  # what to name, with an example
    known_from: str  # versions in which that was checked, and how
    lines: Callable[[AdapterUse], tuple[str, str, str]]  # the three lines that use an adapter
    code: bool = False  # whether the lines are code, rather than sentences
    any_size: bool = False  # whether it reads adapters of models of other sizes than the published ones
    shows_preview: bool = True  # whether it shows a picture beside the file, or in its header

    def form_for(self, family: str, *, published: bool) -> str:
        """The form of the file that it reads; empty when it does not read adapters of this model.

        `published` says whether the model has the sizes of the published ones.
        """
        return self.forms.get(family, "") if published or self.any_size else ""


GUIDED = ("flux1-dev", "flux1-krea-dev")
"""Known models that take guidance as an input."""
MFLUX = {
    "flux1-dev": ("mflux-generate", "dev"),
    "flux1-krea-dev": ("mflux-generate", "krea-dev"),
    "flux1-schnell": ("mflux-generate", "schnell"),
    "flux2-klein-4b": ("mflux-generate-flux2", "flux2-klein-4b"),
    "flux2-klein-9b": ("mflux-generate-flux2", "flux2-klein-9b"),
    "flux2-klein-base-4b": ("mflux-generate-flux2", "flux2-klein-base-4b"),
    "flux2-klein-base-9b": ("mflux-generate-flux2", "flux2-klein-base-9b"),
    "flux3-klein": ("mflux-generate-flux3", "flux3-klein"),
    "flux3-klein-base": ("mflux-generate-flux3", "flux3-klein-base"),
    "z-image": ("mflux-generate-z-image", "z-image"),
    "z-image-turbo": ("mflux-generate-z-image-turbo", "z-image-turbo"),
}
"""mflux' command, and its name of a model."""


def _in_comfyui(use: AdapterUse) -> tuple[str, str, str]:
    return (
        f"In ComfyUI open {use.workflow or 'a workflow with a node Load LoRA'}.",
        f"Its node Load LoRA has {use.name} at strength {use.strength:g}. Where a file of your model has another name, "
        "choose it in its node.",
        f"Keep “{use.trigger}” in the prompt, as in “{use.prompt}”, and press Run.",
    )


def _in_forge(use: AdapterUse) -> tuple[str, str, str]:
    if use.guidance_is_input:
        scale = f"CFG Scale 1, Distilled CFG Scale {use.guidance:g}"
    else:
        scale = f"CFG Scale {use.guidance:g}"
    return (
        f"In the Lora tab press Refresh; the card {use.name} shows the preview and adds trigger and weight.",
        f"Prompt: <lora:{use.name}:{use.strength:g}> {use.prompt}",
        f"With {use.model_title}: sampler Euler, {use.steps} steps, {scale}, {use.side_px} x {use.side_px}.",
    )


def _in_draw_things(use: AdapterUse) -> tuple[str, str, str]:
    return (
        f"In Draw Things manage the LoRAs, import one from a file, and choose {PurePath(use.file).name}.",
        f"Name {draw_things_base(use)} as its base by hand, and “{use.trigger}” as its trigger word.",
        f"Choose it at a weight of {use.strength:.0%}; prompt: {use.prompt}",
    )


def draw_things_base(use: AdapterUse) -> str:
    """The base that Draw Things asks for; it does not recognize most files by itself."""
    if use.family == "flux2":
        return f"FLUX.2 [klein] {'9B' if '9b' in use.model else '4B'}"
    return TITLES[use.family]


def _in_mflux(use: AdapterUse) -> tuple[str, str, str]:
    command, model = MFLUX[use.model]
    chosen = f"--model {model}"
    if use.own_folder:
        chosen = f"--model {shlex.quote(use.source)} --base-model {model}"
    return (
        f"{command} {chosen} --steps {use.steps} \\",
        f"  --lora-paths {shlex.quote(use.file)} --lora-scales {use.strength:g} \\",
        f"  --prompt {shlex.quote(use.prompt)} --output picture.png",
    )


def _in_diffusers(use: AdapterUse) -> tuple[str, str, str]:
    path = PurePath(use.file)
    load = (
        f"pipeline.load_lora_weights({_quoted(str(path.parent))}, weight_name={_quoted(path.name)}, "
        f'adapter_name="likeness"); pipeline.set_adapters("likeness", {use.strength:g})'
    )
    if use.family == "flux3":
        blocks = "Flux3DistilledAutoBlocks" if use.pipeline.startswith("Flux3Distilled") else "Flux3AutoBlocks"
        return (  # without its step that has a language model rewrite the prompt, and so the trigger
            f"import torch; from diffusers import {blocks}; blocks = {blocks}(); "
            'blocks.sub_blocks.pop("prompt_upsampler"); '
            f"pipeline = blocks.init_pipeline({_quoted(use.source)}); pipeline.load_components(dtype=torch.bfloat16)",
            load,
            f"pipeline(prompt={_quoted(use.prompt)}, num_inference_steps={use.steps}, height={use.side_px}, "
            f'width={use.side_px}, output="images")[0].save("picture.png")',
        )
    # ZImagePipeline adds 1 to its guidance, and Turbo's schedule ends with a step of no length.
    guidance = f"guidance_scale={use.guidance - 1 if use.family == 'z_image' else use.guidance:g}"
    if use.family == "flux1" and not use.guidance_is_input and use.guidance > 1:
        guidance = f'negative_prompt="", true_cfg_scale={use.guidance:g}'
    steps = use.steps + 1 if use.model == "z-image-turbo" else use.steps
    return (
        f"import torch; from diffusers import {use.pipeline}; pipeline = {use.pipeline}.from_pretrained("
        f"{_quoted(use.source)}, dtype=torch.bfloat16)",
        load,
        f"pipeline(prompt={_quoted(use.prompt)}, num_inference_steps={steps}, {guidance}, "
        f'height={use.side_px}, width={use.side_px}).images[0].save("picture.png")',
    )


def _quoted(text: str) -> str:
    """A string as Python writes it, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


PROGRAMS = {
    program.name: program
    for program in (
        Program(
            name="comfyui",
            title="ComfyUI",
            forms={"flux1": DIFFUSERS, "chroma": DIFFUSERS, "flux2": KOHYA, "z_image": KOHYA},
            folder="ComfyUI’s own, such as ~/ComfyUI",
            known_from="By ComfyUI's own key maps, 0.3.76 to 0.19.3. Kohya's names for FLUX.2 klein, because versions "
            "before 21 January 2026 (0.11) miss up to 60% of the layers in diffusers' names and draw on; and for "
            "Z-Image, because 0.3.76 misses all of them.",
            lines=_in_comfyui,
        ),
        Program(
            name="draw_things",
            title="Draw Things",
            forms={"flux1": DIFFUSERS, "flux2": DIFFUSERS, "z_image": DIFFUSERS},
            folder="a folder to import from, such as ~/Downloads",
            known_from="By the importer in its published source of 2026, not tried on a Mac. It converts a file that "
            "is imported, and does not look into folders.",
            lines=_in_draw_things,
            shows_preview=False,
        ),
        Program(
            name="mflux",
            title="mflux",
            forms={"flux1": DIFFUSERS, "flux2": DIFFUSERS, "flux3": DIFFUSERS, "z_image": DIFFUSERS},
            folder="a folder of LoRAs, such as ~/loras",
            known_from="By the command line and the loader of mflux 0.24; 0.18 has no FLUX.3. --lora is the newer word "
            "for --lora-paths and --lora-scales, which older versions read too.",
            lines=_in_mflux,
            code=True,
        ),
        Program(
            name="diffusers",
            title="diffusers",
            forms=dict.fromkeys(TITLES, DIFFUSERS),
            folder="a folder of LoRAs, such as ~/loras",
            known_from="diffusers 0.42.1 with peft 0.21.2: the lines were run there (FLUX.3’s were not), and the "
            "numbers are those of the merged weights. Older versions call dtype torch_dtype.",
            lines=_in_diffusers,
            code=True,
            any_size=True,
        ),
        Program(
            name="forge",
            title="Forge",
            forms={"flux1": DIFFUSERS, "flux2": KOHYA, "z_image": KOHYA, "chroma": KOHYA},
            folder="Forge’s own, such as ~/stable-diffusion-webui-forge",
            known_from="FLUX.1 in Forge; FLUX.2 klein, Z-Image and Chroma in Forge Neo, whose key maps are those of "
            "ComfyUI 0.3.77. In kohya's names, because others are read by versions since February 2026 only.",
            lines=_in_forge,
        ),
    )
}
"""In display order."""


def unread(family: str, *, published: bool) -> str:
    """Which programs do not read adapters of this model, in a sentence; empty when all do."""
    others = [each.title for each in PROGRAMS.values() if not each.form_for(family, published=published)]
    if not others:
        return ""
    named = others[0] if len(others) == 1 else f"{', '.join(others[:-1])} and {others[-1]}"
    verb = "reads" if len(others) == 1 else "read"
    if not published:
        return f"{named} {verb} adapters of the published models only, and this one has other sizes."
    return f"{named} {verb} no adapters of {TITLES.get(family, family)} in the versions that were looked at."

"""A ComfyUI workflow that draws with an adapter: a graph that opens when its file is dragged onto ComfyUI's page.

    load the transformer --> load the LoRA [--> shift] -----------.
    load the text encoders --> encode the prompt [--> guidance] ---+--> sampler --> decode --> save
                        '--> encode "", or zeros where guidance = 1'
    an empty latent ----------------------------------------------'

    family         steps by                   guidance                               shift
    FLUX.1         KSampler, "simple"         an input (dev), or none (schnell)      ComfyUI's own
    Chroma         KSampler, "simple"         cfg                                    3
    Z-Image        KSampler, "simple"         cfg                                    6, Turbo 3
    FLUX.2 klein   Flux2Scheduler             cfg                                    of the scheduler

Steps, guidance and size are those of our own drawing. The form is ComfyUI's workflow version 0.4: nodes with inputs and
outputs by slot, the values of their widgets in order, and links. tests/comfy_nodes.json holds the nodes that ComfyUI
0.19.3 has (`python -m bench.comfy_nodes`), and every graph is compared with it. Plain Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.adapters.programs import AdapterUse

VERSION = 0.4  # of the workflow's form
COLUMN_PX, ROW_PX = 340, 40
NODE_PX = (300, 120)
_SEED_MODE = "fixed"  # what ComfyUI does with a seed after drawing; a widget of its own behind each seed


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model in ComfyUI's folders, by name."""

    transformer: str
    encoders: tuple[str, ...]
    vae: str


_CLIP, _T5, _QWEN_4B, _QWEN_8B = (
    "clip_l.safetensors", "t5xxl_fp16.safetensors", "qwen_3_4b.safetensors", "qwen_3_8b.safetensors",
)  # fmt: skip
_VAE, _VAE2 = "ae.safetensors", "flux2-vae.safetensors"
USUAL_FILES = {
    "flux1-dev": ModelFiles("flux1-dev.safetensors", (_CLIP, _T5), _VAE),
    "flux1-krea-dev": ModelFiles("flux1-krea-dev.safetensors", (_CLIP, _T5), _VAE),
    "flux1-schnell": ModelFiles("flux1-schnell.safetensors", (_CLIP, _T5), _VAE),
    "flux2-klein-4b": ModelFiles("flux-2-klein-4b.safetensors", (_QWEN_4B,), _VAE2),
    "flux2-klein-base-4b": ModelFiles("flux-2-klein-base-4b.safetensors", (_QWEN_4B,), _VAE2),
    "flux2-klein-9b": ModelFiles("flux-2-klein-9b.safetensors", (_QWEN_8B,), _VAE2),
    "flux2-klein-base-9b": ModelFiles("flux-2-klein-base-9b.safetensors", (_QWEN_8B,), _VAE2),
    "z-image": ModelFiles("z_image_bf16.safetensors", (_QWEN_4B,), _VAE),
    "z-image-turbo": ModelFiles("z_image_turbo_bf16.safetensors", (_QWEN_4B,), _VAE),
    "chroma1-hd": ModelFiles("Chroma1-HD.safetensors", (_T5,), _VAE),
}
"""The names under which these files are published for ComfyUI."""
SHIFTS = {"z-image": 6.0, "z-image-turbo": 3.0, "chroma1-hd": 3.0}
"""Static shifts of the models' own schedulers, where ComfyUI's is another."""
ENCODER_TYPES = {"flux1": "flux", "flux2": "flux2", "z_image": "lumina2", "chroma": "chroma"}


@dataclass(frozen=True, slots=True)
class NodeType:
    """A node of ComfyUI's: names and types of what goes in by links, its widgets, and the types of what comes out."""

    links: Mapping[str, str]
    widgets: tuple[str, ...]
    outputs: tuple[str, ...]
    seeds: tuple[str, ...] = ()  # widgets that have the widget "control after generate" behind them


NODES: dict[str, NodeType] = {
    "UNETLoader": NodeType({}, ("unet_name", "weight_dtype"), ("MODEL",)),
    "LoraLoaderModelOnly": NodeType({"model": "MODEL"}, ("lora_name", "strength_model"), ("MODEL",)),
    "ModelSamplingAuraFlow": NodeType({"model": "MODEL"}, ("shift",), ("MODEL",)),
    "CLIPLoader": NodeType({}, ("clip_name", "type", "device"), ("CLIP",)),
    "DualCLIPLoader": NodeType({}, ("clip_name1", "clip_name2", "type", "device"), ("CLIP",)),
    "CLIPTextEncode": NodeType({"clip": "CLIP"}, ("text",), ("CONDITIONING",)),
    "T5TokenizerOptions": NodeType({"clip": "CLIP"}, ("min_padding", "min_length"), ("CLIP",)),
    "ConditioningZeroOut": NodeType({"conditioning": "CONDITIONING"}, (), ("CONDITIONING",)),
    "FluxGuidance": NodeType({"conditioning": "CONDITIONING"}, ("guidance",), ("CONDITIONING",)),
    "VAELoader": NodeType({}, ("vae_name",), ("VAE",)),
    "EmptySD3LatentImage": NodeType({}, ("width", "height", "batch_size"), ("LATENT",)),
    "EmptyFlux2LatentImage": NodeType({}, ("width", "height", "batch_size"), ("LATENT",)),
    "KSampler": NodeType(
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"},
        ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
        ("LATENT",),
        ("seed",),
    ),
    "RandomNoise": NodeType({}, ("noise_seed",), ("NOISE",), ("noise_seed",)),
    "KSamplerSelect": NodeType({}, ("sampler_name",), ("SAMPLER",)),
    "Flux2Scheduler": NodeType({}, ("steps", "width", "height"), ("SIGMAS",)),
    "CFGGuider": NodeType(
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING"}, ("cfg",), ("GUIDER",)
    ),
    "SamplerCustomAdvanced": NodeType(
        {"noise": "NOISE", "guider": "GUIDER", "sampler": "SAMPLER", "sigmas": "SIGMAS", "latent_image": "LATENT"},
        (),
        ("LATENT", "LATENT"),
    ),
    "VAEDecode": NodeType({"samples": "LATENT", "vae": "VAE"}, (), ("IMAGE",)),
    "SaveImage": NodeType({"images": "IMAGE"}, ("filename_prefix",), ()),
}
"""The nodes that the graphs use."""


@dataclass(slots=True)
class _Graph:
    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)

    def add(self, column: int, kind: str, title: str = "", /, **inputs: Any) -> int:
        """A node in a column of the page; an input by link is the id of the node whose first output it is."""
        node, number = NODES[kind], len(self.nodes) + 1
        above = sum(each["pos"][0] == column * COLUMN_PX for each in self.nodes)
        slots = [
            self._link(inputs.pop(name), number, slot, name, of) for slot, (name, of) in enumerate(node.links.items())
        ]
        values: list[Any] = []
        for name in node.widgets:
            values.append(inputs.pop(name))
            values += [_SEED_MODE] if name in node.seeds else []
        if inputs:
            raise ValueError(f"{kind} has no {', '.join(inputs)}")
        self.nodes.append(
            {
                "id": number,
                "type": kind,
                **({"title": title} if title else {}),
                "pos": [column * COLUMN_PX, above * (NODE_PX[1] + ROW_PX)],
                "size": list(NODE_PX),
                "flags": {},
                "order": number - 1,
                "mode": 0,
                "inputs": slots,
                "outputs": [{"name": of, "type": of, "links": []} for of in node.outputs],
                "properties": {"Node name for S&R": kind},
                "widgets_values": values,
            }
        )
        return number

    def _link(self, origin: int, number: int, slot: int, name: str, of: str) -> dict[str, Any]:
        link = len(self.links) + 1
        self.links.append([link, origin, 0, number, slot, of])
        self.nodes[origin - 1]["outputs"][0]["links"].append(link)
        return {"name": name, "type": of, "link": link}


def workflow(use: AdapterUse, lora: str, files: ModelFiles | None = None, seed: int = 0) -> dict[str, Any]:
    """The graph, as the JSON of its file. `lora` is the adapter's name in ComfyUI's folder of LoRAs.

    `files` are those of the model at the user's, else the usual ones. Raises KeyError for a model that ComfyUI lacks.
    """
    files = files or USUAL_FILES[use.model]
    graph = _Graph()
    loaded = graph.add(0, "UNETLoader", unet_name=files.transformer, weight_dtype="default")
    model = graph.add(1, "LoraLoaderModelOnly", model=loaded, lora_name=lora, strength_model=use.strength)
    if use.model in SHIFTS:
        model = graph.add(1, "ModelSamplingAuraFlow", model=model, shift=SHIFTS[use.model])
    positive, negative = _conditions(graph, use, files)
    latent = _sampled(graph, use, model, positive, negative, seed)
    vae = graph.add(0, "VAELoader", vae_name=files.vae)
    picture = graph.add(4, "VAEDecode", samples=latent, vae=vae)
    graph.add(4, "SaveImage", images=picture, filename_prefix=use.name)
    return {
        "last_node_id": len(graph.nodes),
        "last_link_id": len(graph.links),
        "nodes": graph.nodes,
        "links": graph.links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": VERSION,
    }


def _conditions(graph: _Graph, use: AdapterUse, files: ModelFiles) -> tuple[int, int]:
    """The prompt, and what guidance leads away from."""
    kind = ENCODER_TYPES[use.family]
    if len(files.encoders) == 2:
        first, second = files.encoders
        encoder = graph.add(0, "DualCLIPLoader", clip_name1=first, clip_name2=second, type=kind, device="default")
    else:
        encoder = graph.add(0, "CLIPLoader", clip_name=files.encoders[0], type=kind, device="default")
    if use.family == "chroma":  # its makers': one token of padding behind the prompt, and no more
        encoder = graph.add(1, "T5TokenizerOptions", clip=encoder, min_padding=1, min_length=0)
    prompt = graph.add(2, "CLIPTextEncode", "Prompt", clip=encoder, text=use.prompt)
    if use.guidance_is_input or use.guidance <= 1:
        negative = graph.add(2, "ConditioningZeroOut", conditioning=prompt)
    else:
        negative = graph.add(2, "CLIPTextEncode", "Negative prompt", clip=encoder, text="")
    if use.guidance_is_input:
        prompt = graph.add(2, "FluxGuidance", conditioning=prompt, guidance=use.guidance)
    return prompt, negative


def _sampled(graph: _Graph, use: AdapterUse, model: int, positive: int, negative: int, seed: int) -> int:
    """The latent of the picture."""
    side: dict[str, Any] = {"width": use.side_px, "height": use.side_px}
    cfg = 1.0 if use.guidance_is_input else use.guidance
    if use.family != "flux2":
        empty = graph.add(3, "EmptySD3LatentImage", **side, batch_size=1)
        return graph.add(
            3, "KSampler", model=model, positive=positive, negative=negative, latent_image=empty, seed=seed,
            steps=use.steps, cfg=cfg, sampler_name="euler", scheduler="simple", denoise=1.0,
        )  # fmt: skip
    return graph.add(
        4,
        "SamplerCustomAdvanced",
        noise=graph.add(3, "RandomNoise", noise_seed=seed),
        guider=graph.add(3, "CFGGuider", model=model, positive=positive, negative=negative, cfg=cfg),
        sampler=graph.add(3, "KSamplerSelect", sampler_name="euler"),
        sigmas=graph.add(3, "Flux2Scheduler", steps=use.steps, **side),
        latent_image=graph.add(3, "EmptyFlux2LatentImage", **side, batch_size=1),
    )

"""ComfyUI's folder made from a tiny model folder of ours: single files with the names of the models' makers.

    folder = make_folder(tmp_path / "ComfyUI", model_folder, "flux1")
    folder = make_folder(tmp_path / "ComfyUI", model_folder, "flux1", checkpoint=True)    # all parts in one file

The names are written down here once more, from the makers' code and ComfyUI's loaders: nothing of core/weights is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx

Names = tuple[tuple[str, tuple[str, ...]], ...]  # theirs, and ours; {} is the block number


def _block(theirs: str, ours: str, rows: Mapping[str, str]) -> Names:
    return tuple(
        (f"{theirs}.{name}", tuple(f"{ours}.{each}" for each in parts.split())) for name, parts in rows.items()
    )


_ATTENTION = {
    "img_attn.qkv": "attn.to_q attn.to_k attn.to_v", "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    "img_attn.proj": "attn.to_out.0", "txt_attn.proj": "attn.to_add_out",
    "img_attn.norm.query_norm": "attn.norm_q", "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q", "txt_attn.norm.key_norm": "attn.norm_added_k",
}  # fmt: skip
_FLUX1_MLP = {
    "img_mlp.0": "ff.net.0.proj", "img_mlp.2": "ff.net.2", "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}  # fmt: skip
_FLUX2_MLP = {
    "img_mlp.0": "ff.linear_in", "img_mlp.2": "ff.linear_out", "txt_mlp.0": "ff_context.linear_in",
    "txt_mlp.2": "ff_context.linear_out",
}  # fmt: skip
_QK_NORMS = {"norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}
_FLUX1_SINGLE = {"linear1": "attn.to_q attn.to_k attn.to_v proj_mlp", "linear2": "proj_out", **_QK_NORMS}
_FLUX3_BLOCK = {
    "q_proj": "attn.to_q", "k_proj": "attn.to_k", "v_proj": "attn.to_v", "attn_out": "attn.to_out.0",
    "mlp_in": "ff.linear_in", "mlp_out": "ff.linear_out", **_QK_NORMS,
}  # fmt: skip
_Z_BLOCK = {
    "attention.qkv": "attention.to_q attention.to_k attention.to_v", "attention.out": "attention.to_out.0",
    "attention.q_norm": "attention.norm_q", "attention.k_norm": "attention.norm_k",
}  # fmt: skip
_DOUBLE, _SINGLE = ("double_blocks.{}", "transformer_blocks.{}"), ("single_blocks.{}", "single_transformer_blocks.{}")
_ENDS = (("img_in", ("x_embedder",)), ("txt_in", ("context_embedder",)), ("final_layer.linear", ("proj_out",)))


def _embedders(pairs: Mapping[str, str]) -> Names:
    ends = {"in_layer": "linear_1", "out_layer": "linear_2"}
    return tuple((f"{a}.{end}", (f"{b}.{ours}",)) for a, b in pairs.items() for end, ours in ends.items())


TRANSFORMERS: dict[str, Names] = {
    "flux1": (
        *_block(
            *_DOUBLE, _ATTENTION | _FLUX1_MLP | {"img_mod.lin": "norm1.linear", "txt_mod.lin": "norm1_context.linear"}
        ),
        *_block(*_SINGLE, _FLUX1_SINGLE | {"modulation.lin": "norm.linear"}),
        *_ENDS,
        *_embedders(
            {
                "time_in": "time_text_embed.timestep_embedder",
                "vector_in": "time_text_embed.text_embedder",
                "guidance_in": "time_text_embed.guidance_embedder",
            }
        ),
        ("final_layer.adaLN_modulation.1", ("norm_out.linear",)),
    ),
    "flux2": (
        *_block(*_DOUBLE, _ATTENTION | _FLUX2_MLP),
        *_block(*_SINGLE, {"linear1": "attn.to_qkv_mlp_proj", "linear2": "attn.to_out"} | _QK_NORMS),
        *_ENDS,
        *_embedders({"time_in": "time_guidance_embed.timestep_embedder"}),
        ("double_stream_modulation_img.lin", ("double_stream_modulation_img.linear",)),
        ("double_stream_modulation_txt.lin", ("double_stream_modulation_txt.linear",)),
        ("single_stream_modulation.lin", ("single_stream_modulation.linear",)),
        ("final_layer.adaLN_modulation.1", ("norm_out.linear",)),
    ),
    "chroma": (
        *_block(*_DOUBLE, _ATTENTION | _FLUX1_MLP),
        *_block(*_SINGLE, _FLUX1_SINGLE),
        *_ENDS,
        *_embedders({"distilled_guidance_layer.layers.{}": "distilled_guidance_layer.layers.{}"}),
        ("distilled_guidance_layer.norms.{}", ("distilled_guidance_layer.norms.{}",)),
    ),
    "flux3": (
        *_block("txt_mode_blocks.{}", "txt_mode_blocks.{}", _FLUX3_BLOCK),
        *_block("content_mode_blocks.image.{}", "mode_blocks.image.{}", _FLUX3_BLOCK),
        *_block(*_SINGLE, _FLUX3_BLOCK),
        *_embedders({"time_in": "timestep_embedder", "ref_time_in": "target_timestep_embedder"}),
        *(
            (f"{place}_stream_modulations.{mode}.lin", (f"{place}_stream_modulations.{mode}.linear",))
            for place in ("early", "single")
            for mode in ("image", "txt")
        ),
        ("emb_in.image", ("x_embedders.image",)),
        ("txt_in", ("context_embedder",)),
        ("final_layer.image.linear", ("proj_out",)),
        ("final_layer.image.adaLN_modulation.1", ("norm_out.linear",)),
    ),
    "z_image": (
        *(
            row
            for stack in ("layers", "noise_refiner", "context_refiner")
            for row in _block(f"{stack}.{{}}", f"{stack}.{{}}", _Z_BLOCK)
        ),
        ("x_embedder", ("all_x_embedder.2-1",)),
        ("final_layer.linear", ("all_final_layer.2-1.linear",)),
        ("final_layer.adaLN_modulation.1", ("all_final_layer.2-1.adaLN_modulation.1",)),
    ),
}
_NORM = re.compile(r"(.+(query_norm|key_norm)|distilled_guidance_layer\.norms\.\d+)\.weight")


def named(family: str, ours: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """A transformer's tensors under its makers' names, layers fused as theirs are."""
    found: dict[str, mx.array] = {}
    rest = dict(ours)
    for theirs, parts in TRANSFORMERS[family]:
        pattern = re.compile(re.escape(parts[0]).replace(r"\{\}", r"(\d+)") + r"\.(weight|bias)")
        for name in [name for name in ours if pattern.fullmatch(name)]:
            *numbers, kind = pattern.fullmatch(name).groups()
            taken = [rest.pop(f"{part.format(*numbers)}.{kind}") for part in parts]
            value = taken[0] if len(taken) == 1 else mx.concatenate(taken)
            if "adaLN_modulation" in theirs and parts == ("norm_out.linear",):  # shift, scale instead of scale, shift
                value = mx.concatenate(list(reversed(mx.split(value, 2))))
            found[f"{theirs.format(*numbers)}.{kind}"] = value
    scales = family != "z_image"
    found |= rest  # the same in both
    return {
        re.sub(r"weight$", "scale", name) if scales and _NORM.fullmatch(name) else name: each
        for name, each in found.items()
    }


_VAE = (
    (r"(\w+)\.conv_norm_out\.", r"\1.norm_out."),
    (r"(\w+)\.mid_block\.attentions\.0\.group_norm\.", r"\1.mid.attn_1.norm."),
    (r"(\w+)\.mid_block\.attentions\.0\.to_out\.0\.", r"\1.mid.attn_1.proj_out."),
    (r"(\w+)\.mid_block\.attentions\.0\.to_(q|k|v)\.", r"\1.mid.attn_1.\2."),
    (r"(\w+)\.mid_block\.resnets\.0\.", r"\1.mid.block_1."),
    (r"(\w+)\.mid_block\.resnets\.1\.", r"\1.mid.block_2."),
    (r"encoder\.down_blocks\.(\d)\.resnets\.(\d)\.", r"encoder.down.\1.block.\2."),
    (r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"^quant_conv\.", r"encoder.quant_conv."),
    (r"^post_quant_conv\.", r"decoder.post_quant_conv."),
)


def named_vae(ours: Mapping[str, mx.array], levels: int = 4) -> dict[str, mx.array]:
    """A VAE's tensors under its makers' names: levels counted from the picture, 1 x 1 convolutions for attention."""
    found = {}
    for name, value in ours.items():
        theirs = re.sub(
            r"decoder\.up_blocks\.(\d)\.(?:resnets\.(\d)|(upsamplers)\.0)\.",
            lambda at: f"decoder.up.{levels - 1 - int(at[1])}.{'upsample' if at[3] else f'block.{at[2]}'}.",
            name.replace("conv_shortcut", "nin_shortcut"),
        )
        for pattern, new in _VAE:
            theirs = re.sub(pattern, new, theirs)
        flat = re.fullmatch(r"\w+\.mid\.attn_1\.(q|k|v|proj_out)\.weight", theirs)
        found[theirs] = value[:, :, None, None] if flat and value.ndim == 2 else value
    return found


FILES = {"text_encoder": "first", "text_encoder_2": "second"}
ENCODERS = {"flux1": ("clip_l", "t5xxl"), "chroma": ("t5xxl",), "flux2": ("qwen3_4b",), "z_image": ("qwen3_4b",)}
Change = Callable[[dict[str, mx.array]], dict[str, mx.array]]


def parts_of(model: Path, family: str) -> dict[str, dict[str, mx.array]]:
    """The tensors of a model folder of ours under the makers' names, by part."""
    found = {}
    for folder in sorted(each for each in model.iterdir() if (each / "config.json").is_file()):
        if folder.name == "scheduler" or folder.name.startswith("tokenizer"):
            continue
        tensors = {name: value for file in folder.glob("*.safetensors") for name, value in mx.load(str(file)).items()}
        mx.eval(tensors)
        if folder.name == "transformer":
            tensors = named(family, tensors)
        elif folder.name == "vae":
            tensors = named_vae(tensors)
        elif any(name.startswith("embeddings.") for name in tensors):  # CLIP's files have this prefix
            tensors = {f"text_model.{name}": value for name, value in tensors.items()}
        found[folder.name] = tensors
    return found


def make_folder(
    path: Path, model: Path, family: str, *, checkpoint: bool = False, change: Change = lambda tensors: tensors
) -> Path:
    """Write a model's parts as single files into `path`/models, and return `path`.

    `change` is made to the transformer and the text encoders, before they are saved.
    """
    parts = {part: each if part == "vae" else change(each) for part, each in parts_of(model, family).items()}
    if checkpoint:
        whole = {f"model.diffusion_model.{name}": value for name, value in parts["transformer"].items()}
        whole |= {f"vae.{name}": value for name, value in parts["vae"].items()}
        for encoder, part in zip(ENCODERS[family], ("text_encoder", "text_encoder_2"), strict=False):
            before = f"text_encoders.{encoder}."
            whole |= {f"{before}transformer.{name}": value for name, value in parts[part].items()}
            whole[f"{before}logit_scale"] = mx.zeros(())
        save(path / "models" / "checkpoints" / "all-in-one.safetensors", whole)
        return path
    for part, tensors in parts.items():
        place = {"transformer": "diffusion_models", "vae": "vae"}.get(part, "text_encoders")
        save(path / "models" / place / f"{part}-of-it.safetensors", tensors)
    return path


def save(file: Path, tensors: dict[str, mx.array], dtypes: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file. Tensors of bytes are 8-bit floats of `dtypes`, by name; E4M3 where it names none."""
    from core.safetensors_file import Content, write

    names = {mx.float32: "F32", mx.bfloat16: "BF16", mx.float16: "F16", mx.int64: "I64", mx.uint32: "U32"}
    contents = {}
    for name, value in tensors.items():
        data = mx.contiguous(value)
        held = (dtypes or {}).get(name, "F8_E4M3") if value.dtype == mx.uint8 else names[value.dtype]
        raw = data.view(mx.uint16) if value.dtype == mx.bfloat16 else data
        mx.eval(raw)
        contents[name] = Content(held, tuple(value.shape), memoryview(bytes(memoryview(raw))))
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, contents, {})


def to_float8(scaled: bool) -> Change:
    """Matrices of blocks as 8-bit floats (E4M3): rounded, or divided by a scale first that is stored beside them."""

    def change(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
        found = {}
        for name, value in tensors.items():
            if not name.endswith(".weight") or value.ndim != 2:
                found[name] = value
                continue
            scale = mx.max(mx.abs(value)) / 448.0 if scaled else mx.array(1.0)
            found[name] = mx.to_fp8(value / scale)
            if scaled:
                found[name.removesuffix("weight") + "scale_weight"] = scale.reshape(1)
        return found | ({"scaled_fp8": mx.zeros((2,))} if scaled else {})

    return change

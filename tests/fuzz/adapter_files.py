"""Adapter files of strangers: each is read and drawn with, or refused in a sentence, by studio and reader alike."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from core.adapters import contents, dense, key_maps, peft_config
from core.adapters import file as adapter_file
from core.adapters.adapted import LoRALinear, find
from core.errors import AdapterProblem
from core.models.base import Family
from core.models.load import load_family
from core.safetensors_file import ITEM_BYTES
from tests.fuzz import scratch
from tests.fuzz.plan import Json, Plan, made_by
from tests.tiny import make_model_folder

NAME = "theirs.safetensors"
FAMILY = "flux1"
PREFIXES = (
    *["transformer.", "", "diffusion_model.", "lora_unet_", "lycoris_", "base_model.model."] * 3,
    "lora_te1_",
    "x.",
)
LAYERS = {  # (out, in) in tests/tiny.py's FLUX.1
    "transformer_blocks.0.attn.to_q": (32, 32),
    "transformer_blocks.1.ff.net.2": (32, 128),
    "double_blocks.0.img_attn.qkv": (96, 32),
    "double_blocks.1.txt_attn.qkv.2": (32, 32),
    "single_blocks.0.linear1": (224, 32),
    "single_blocks.1.linear1_qkv": (96, 32),
    "single_transformer_blocks.9.proj_mlp": (128, 32),
    "final_layer.adaLN_modulation.1": (64, 32),
    "x_embedder": (32, 16),
    "layers.0.attention.qkv": (96, 32),
    "nowhere.at.all": (4, 4),
}
ODD_NAMES = ("", ".", "__metadata__", "a.alpha", "\ud800.lora_A.weight", "x" * 400, "a\nb.lora_B.weight", "\u0663")
DTYPES = ("F32", "F16", "BF16", "F64", "I64", "I32", "U8", "BOOL", "F8_E4M3", "C64", "F31", "")
FILLS = (*[b"\x3c\x3f"] * 8, b"\0", b"\xff", b"\x7f\x7f", b"\x80")  # numbers near 1, zeros, NaN, huge and tiny ones
KINDS = ("lora", "kohya", "loha", "lokr", "lokr of low rank")
SIZES = (0, 1, 2, 3, 16, 32, 33, 2**31, 2**63)
SCALARS = (None, True, 0, 1, -1, 2**70, 1e308, "8", "transformer.", "(a+)+$", "*", ".*to_q")
JSON = Json(
    lambda plan: plan.float() if plan.rarely(6) else plan.one_of(SCALARS),
    lambda plan: plan.one_of(("a", ".*to_q", "(")),
)
KEYS = ("r", "lora_alpha", "alpha", "transformer.lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "x")
CONFIGS = ("", "{", "[" * 3000, '{"lora_alpha": NaN}', "\ufeff{}", '{"r": 2, "lora_alpha": 4}')


class Adapter(NamedTuple):
    """What a stranger sends."""

    content: bytes
    config: str | None


class Tensor(NamedTuple):
    """One entry of a header, and how its bytes are filled."""

    name: str
    dtype: str
    shape: tuple[Any, ...]
    fill: bytes


def _shapes(kind: str, size_out: int, size_in: int, rank: int) -> dict[str, tuple[int, ...]]:
    """Of the tensors of one layer."""
    if kind == "lora":
        return {"lora_A.weight": (rank, size_in), "lora_B.weight": (size_out, rank)}
    if kind == "kohya":
        return {"lora_down.weight": (rank, size_in), "lora_up.weight": (size_out, rank), "alpha": ()}
    if kind == "loha":
        halves = {"a": (size_out, rank), "b": (rank, size_in)}
        return {f"hada_w{n}_{half}": halves[half] for n in "12" for half in "ab"}
    if kind == "lokr":
        return {"lokr_w1": (2, 2), "lokr_w2": (size_out // 2, size_in // 2)}
    return {"lokr_w1": (2, 2), "lokr_w2_a": (size_out // 2, rank), "lokr_w2_b": (rank, size_in // 2)}


def _part(plan: Plan) -> list[Tensor]:
    """The tensors of one layer, of one kind."""
    layer = plan.one_of(sorted(LAYERS))
    size_out, size_in = LAYERS[layer]
    prefix, rank = plan.one_of(PREFIXES), 1 + plan.number(3)
    shapes = _shapes(plan.one_of(KINDS), size_out, size_in, rank)
    if plan.rarely(4):
        shapes["dora_scale"] = plan.one_of([(size_out, 1), (1, size_in), (size_out,), (2, 2)])
    path = layer.replace(".", "_") if prefix.endswith("_") else layer
    fill, dtype = plan.one_of(FILLS), plan.one_of(DTYPES[:3])
    return [Tensor(f"{prefix}{path}.{end}", dtype, shape, fill) for end, shape in shapes.items()]


def _odd(plan: Plan) -> Tensor:
    name = plan.text(8) if plan.number(2) else plan.one_of(ODD_NAMES)
    shape = (True, "x") if plan.rarely() else tuple(plan.many(4, lambda each: each.one_of(SIZES)))
    return Tensor(name, plan.one_of(DTYPES), shape, plan.one_of(FILLS))


def _file(tensors: list[Tensor], metadata: Any, change: tuple[int, int], damage: tuple[int, bytes]) -> bytes:
    """The bytes of a file; one tensor changed, and some bytes of the header replaced."""
    table: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for index, tensor in enumerate(tensors):
        which, how = change
        shape, dtype = tensor.shape, tensor.dtype
        if index == which and how == 0:
            continue
        if index == which:
            shape = {1: (*shape, 1), 2: shape[:1], 3: tuple(reversed(shape))}.get(how, shape)
            dtype = DTYPES[how] if how > 3 else dtype
        values = 1
        for size in shape:
            values *= size if isinstance(size, int) and 0 <= size < 10**5 else 1
        size = min(values * ITEM_BYTES.get(dtype, 1), 10**6)
        table[tensor.name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + size]}
        body += (tensor.fill * size)[:size]
    text = bytearray(json.dumps(table).encode())
    at, piece = damage
    if piece:
        text[at % len(text) : at % len(text) + len(piece)] = piece
    return struct.pack("<Q", len(text)) + bytes(text) + body


def _config(plan: Plan) -> str:
    """PEFT's settings."""
    kind = plan.number(3)
    if kind == 0:
        return plan.one_of(CONFIGS)
    if kind == 1:
        return json.dumps(JSON(plan))
    keys = plan.many(4, lambda each: each.one_of(KEYS))
    return json.dumps({key: plan.one_of([1, 2, 8.0]) if plan.number(2) else JSON(plan) for key in keys})


def _metadata(plan: Plan) -> Any:
    kind = plan.number(3)
    if kind == 0:
        return {"lora_adapter_metadata": _config(plan)}
    if kind == 1:
        return {"ss_network_dim": "2", "ss_network_alpha": "2", "modelspec.trigger_phrase": "\ud800sks"}
    return JSON(plan)


def _adapter(plan: Plan) -> Adapter:
    """Mostly a whole file, so that what is behind the header is reached; now and then with damage of each kind."""
    tensors = [tensor for part in plan.many(3, _part, at_least=1) for tensor in part]
    if plan.rarely():
        tensors += plan.many(2, _odd)
    change = (plan.number(12), plan.number(12)) if plan.rarely() else (-1, 0)
    damage = (plan.number(2001), plan.bytes(1 + plan.number(3))) if plan.rarely() else (0, b"")
    content = _file(tensors, _metadata(plan) if plan.rarely() else None, change, damage)
    if plan.rarely():
        content = plan.some_bytes(80)
    return Adapter(content, _config(plan) if plan.rarely() else None)


DATA = made_by(_adapter, 192)


@cache
def _family() -> Family:
    return load_family(make_model_folder(scratch.folder() / "model"))


def check(adapter: Adapter) -> None:
    """One execution."""
    path = scratch.folder() / NAME
    path.write_bytes(adapter.content)
    beside = path.with_name(peft_config.FILE)
    beside.unlink(missing_ok=True)
    if adapter.config is not None:
        beside.write_text(adapter.config, encoding="utf-8", errors="replace")
    _import(path)
    try:
        held = adapter_file.read_to_draw(path, FAMILY)
    except AdapterProblem as problem:
        _assert_words(problem)
        return
    _draw_with(held)


def _import(path: Path) -> None:
    """As the studio does."""
    try:
        header = contents.header_of(path, NAME)
        family = contents.families_of(header)[0]
        assert family in key_maps.FAMILIES
        parts = contents.parts_of(header, family, NAME)
        assert contents.largest_rank(parts) >= 1
        contents.check(path, header, parts, NAME)
    except AdapterProblem as problem:
        _assert_words(problem)


def _draw_with(held: adapter_file.DrawingFile) -> None:
    """On a small model: its layers are changed, or the layers that do not fit are named."""
    transformer = _family().transformer
    try:
        adapter = dense.attach(transformer, held.factors, held.parts, name="theirs", strength=0.5, title=NAME)
    except AdapterProblem as problem:
        _assert_words(problem)
        return
    for path in adapter.parts:
        layer = find(transformer, path)
        assert isinstance(layer, LoRALinear)
        mx.eval(layer(mx.ones((1, layer.base["weight"].shape[1]))))
    adapter.detach()


def _assert_words(problem: AdapterProblem) -> None:
    assert NAME in problem.message
    assert len(problem.problems) <= 13
    for words in (problem.message, *(text for each in problem.problems for text in (each.field, each.message))):
        assert words.strip()
        assert len(words) < 700
        words.encode()

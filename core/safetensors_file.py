"""Safetensors files: their headers, read and validated without loading tensors, and the writing of such files.

    8 bytes        length of the header, little-endian
    header         JSON: {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}
    the rest       the tensors, end to end, with no gap

Files are not trusted: every size is checked against the file's size before memory is allocated. Plain Python, so that
the web process can validate an uploaded adapter without importing MLX.

Source: the format's description at https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import FieldProblem, ModelProblem, Problem
from core.files import sha256_of

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8,
}  # fmt: skip
FLOATS = ("BF16", "F16", "F32")  # the dtypes of weights
FLOAT8 = ("F8_E4M3", "F8_E5M2")  # widened while they are read
_SIGNED = ("F64", "F32", "F16", "BF16")  # floats whose highest bit is the sign
_PACKED = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i"}  # struct's letters
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
HASH_NAME = re.compile(r"[0-9a-f]{64}")
_SHOWN, _SHOWN_CHARACTERS = 12, 120  # problems, and characters of a name in them
_ZERO_CHUNK = 2**20  # bytes


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file: its dtype in the format's spelling ("F32", "BF16", ...), its shape and byte range."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def values(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors of a file by name, its metadata, and the byte at which the tensors begin."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    body: int

    @property
    def parameters(self) -> int:
        return sum(info.values for info in self.tensors.values())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is stored: its file, its name and header entry there, and the byte at which it begins.

    A part of a stored tensor has an `info` of its own: that part's shape and byte range.
    """

    path: Path
    name: str
    info: TensorInfo
    begin: int
    scale: Place | None = None  # of 8-bit floats: where the number is by which they are multiplied
    swapped: bool = False  # the two halves of the rows are wanted in the other order
    whole: bool = True  # whether it is the stored tensor as it is

    @property
    def direct(self) -> bool:
        """Whether any reader of safetensors hands it out under its name."""
        return self.whole and self.info.dtype in FLOATS


@dataclass(frozen=True, slots=True)
class Content:
    """A tensor to write: its dtype in the format's spelling, its shape, and a view of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview  # of single bytes


def header_of(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """The header of a file with these dtypes and shapes; the tensors follow end to end, in this order."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, (dtype, shape) in tensors.items():
        end = place + math.prod(shape) * ITEM_BYTES[dtype]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)  # the format requires that tensors begin at a multiple of 8
    return struct.pack("<Q", len(text)) + text


def write(path: Path, contents: Mapping[str, Content], metadata: Mapping[str, str]) -> None:
    """Write a file, from any thread. Raises OSError."""
    with path.open("wb") as file:
        file.write(header_of({name: (each.dtype, each.shape) for name, each in contents.items()}, metadata))
        for each in contents.values():
            file.write(each.data)


def holds(path: Path, contents: Mapping[str, Content]) -> bool:
    """Whether a file is readable and has exactly these tensors, bit for bit."""
    try:
        header = read_header(path)
    except ModelProblem:
        return False
    stored = {name: (info.dtype, info.shape) for name, info in header.tensors.items()}
    return stored == {name: (each.dtype, each.shape) for name, each in contents.items()} and all(
        read_bytes(path, header, name) == each.data for name, each in contents.items()
    )


def read_header(
    path: Path, problem: type[Problem] = ModelProblem, *, name: str = "", bytes_at_most: int = MAX_HEADER_BYTES
) -> Header:
    """The header of a safetensors file, with every size checked against the file's size.

    Raises `problem` (ModelProblem, or AdapterProblem for an adapter) with a message that calls the file `name`, or by
    its own name.
    """
    shown_name = name or path.name
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > size - 8:
                raise problem(f"{shown_name} is not a complete safetensors file: it is cut off, or of another format.")
            if length > bytes_at_most:
                raise problem(f"{shown_name} has a header of {length:,} bytes; at most {bytes_at_most:,} are allowed.")
            text = file.read(length)
    except FileNotFoundError:
        raise problem(f"{name or path} is not there.") from None
    except OSError as error:
        raise problem(f"{name or path} cannot be read: {error.strerror}.") from error
    try:
        data = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise problem(f"{shown_name} is not a safetensors file: its header cannot be read ({error}).") from None
    if not isinstance(data, dict):
        raise problem(f"{shown_name} is not a safetensors file: its header is no table of tensors.")
    metadata = data.pop("__metadata__", None) or {}  # MLX writes null for none
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise problem(f"{shown_name} has broken metadata: it must hold nothing but strings.")
    tensors, problems = _tensors(data)
    problems = problems or _gaps(tensors, size - 8 - length)
    if problems:
        more = [FieldProblem("...", f"and {len(problems) - _SHOWN} more")] if len(problems) > _SHOWN else []
        raise problem(f"{shown_name} is damaged.", [*problems[:_SHOWN], *more])
    return Header(tensors, metadata, 8 + length)


def shown(name: str) -> str:
    """A tensor's name as a sentence names it: without what cannot be printed, and shortened when it is long."""
    text = "".join(each if each.isprintable() else "\ufffd" for each in name[: _SHOWN_CHARACTERS + 1])
    if not text.strip():
        return "(no name)"
    return text if len(name) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def is_zero(path: Path, header: Header, name: str) -> bool:
    """Whether every value of a tensor is 0, or -0 of a float."""
    info = header.tensors[name]
    width = ITEM_BYTES[info.dtype]
    with path.open("rb") as file:
        file.seek(header.body + info.begin)
        left = info.end - info.begin
        while left > 0:
            chunk = bytearray(file.read(min(_ZERO_CHUNK, left)))
            if not chunk:
                break
            left -= len(chunk)
            if info.dtype in _SIGNED:
                chunk[width - 1 :: width] = chunk[width - 1 :: width].replace(b"\x80", b"\0")
            if chunk.count(0) < len(chunk):
                return False
    return True


def read_bytes(path: Path, header: Header, name: str) -> bytes:
    """The bytes of one tensor; `header` is this file's, so its sizes have been checked."""
    info = header.tensors[name]
    with path.open("rb") as file:
        file.seek(header.body + info.begin)
        return file.read(info.end - info.begin)


def read_rows(place: Place, rows: Iterable[int]) -> bytes:
    """Rows of a matrix, end to end. Raises ModelProblem for a row out of range, or when they cannot be read."""
    length = (place.info.end - place.info.begin) // place.info.shape[0]
    found = []
    try:
        with place.path.open("rb") as file:
            for row in rows:
                if not 0 <= row < place.info.shape[0]:
                    raise ModelProblem(
                        f"{place.path} has {place.info.shape[0]:,} rows in {place.name}, and no row {row:,}."
                    )
                file.seek(place.begin + row * length)
                found.append(file.read(length))
    except OSError as error:
        raise ModelProblem(f"{place.path} cannot be read: {error.strerror}.") from error
    return b"".join(found)


def read_number(path: Path, header: Header, name: str) -> float:
    """A tensor of one value as a number."""
    return number_of(header.tensors[name].dtype, read_bytes(path, header, name))


def number_of(dtype: str, content: bytes) -> float:
    """The number that these bytes are."""
    if dtype == "BF16":  # the upper half of a float32
        dtype, content = "F32", b"\0\0" + content
    return float(struct.unpack(f"<{_PACKED[dtype]}", content)[0])


def read_place(place: Place) -> bytes:
    """The bytes of a tensor or a part of one, as they are stored. Raises ModelProblem."""
    length = place.info.end - place.info.begin
    try:
        with place.path.open("rb") as file:
            file.seek(place.begin)
            content = file.read(length)
    except OSError as error:
        raise ModelProblem(f"{place.path} cannot be read: {error.strerror}.") from error
    if len(content) != length:
        raise ModelProblem(f"{place.path} is cut off within {place.name}.")
    return content


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of one part: `stem`.safetensors, or the shards that its index names.

    Raises ModelProblem when there is neither, or with every missing shard.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ModelProblem(f"{folder} has no weights: neither {single.name} nor {index.name} is there.")
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise ModelProblem(f"{index} names no files: it needs a table called weight_map.")
    names = sorted(set(table.values()))
    outside = [name for name in names if Path(name).name != name]
    missing = [name for name in names if name not in outside and not (folder / name).is_file()]
    if outside or missing:
        problems = [FieldProblem(name, "lies outside of the model's folder") for name in outside]
        problems += [FieldProblem(name, "is not there") for name in missing]
        raise ModelProblem(f"{folder} is incomplete. Download the model again.", problems)
    return [folder / name for name in names]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder. Raises ModelProblem."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelProblem(f"{path} is not there.") from None
    except (OSError, ValueError) as error:
        raise ModelProblem(f"{path} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise ModelProblem(f"{path} must hold a JSON object.")
    return data


def weights_sha256(path: Path) -> str:
    """The file's SHA-256, in hex; for a link into the Hugging Face cache the name of its target, which is the hash."""
    target = path.resolve()
    return target.name if path.is_symlink() and HASH_NAME.fullmatch(target.name) else sha256_of(path)


def weights_sha256_of_all(paths: Iterable[Path]) -> str:
    """One SHA-256 for several files, of their names and contents in name order."""
    lines = [f"{path.name} {weights_sha256(path)}\n" for path in sorted(paths)]
    return sha256_of("".join(lines).encode())


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice")
    return table


def _tensors(data: dict[str, Any]) -> tuple[dict[str, TensorInfo], list[FieldProblem]]:
    tensors: dict[str, TensorInfo] = {}
    problems: list[FieldProblem] = []
    for name, entry in data.items():
        trouble = _trouble(entry)
        if trouble:
            problems.append(FieldProblem(shown(name), trouble))
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = TensorInfo(entry["dtype"], tuple(entry["shape"]), begin, end)
        expected = tensors[name].values * ITEM_BYTES[entry["dtype"]]
        if end - begin != expected:
            problems.append(FieldProblem(shown(name), f"takes {end - begin:,} bytes; its shape needs {expected:,}"))
    return tensors, problems


def _trouble(entry: Any) -> str:
    """Why an entry of the header cannot be a tensor, or ""."""
    if not isinstance(entry, dict):
        return "is described by something that is no table"
    dtype = entry.get("dtype")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        return f"has the unknown type {reprlib.repr(dtype)}"
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or len(shape) > 8 or not all(_is_size(length) for length in shape):
        return f"has the impossible shape {reprlib.repr(shape)}"
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(place) for place in offsets):
        return f"has the impossible place {reprlib.repr(offsets)}"
    return ""


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _gaps(tensors: dict[str, TensorInfo], body_bytes: int) -> list[FieldProblem]:
    """Check that the tensors fill the rest of the file end to end, without gap or overlap."""
    place = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != place:
            return [FieldProblem(shown(name), f"begins at byte {info.begin:,}; the one before it ends at {place:,}")]
        place = info.end
    if place != body_bytes:
        return [FieldProblem("file", f"holds {body_bytes:,} bytes of tensors; its header describes {place:,}")]
    return []

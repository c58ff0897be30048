"""A text encoder whose weights stay on disk: each layer is read, used for every text, and dropped.

    stream_i = embed(text_i)                      reads only the rows of the token table that the text uses
    for each layer:  read its matrices;  stream_i = layer(stream_i) for every i;  drop them
    features_i = project(stream_i)

Encoding prompts takes the memory of one layer and of one text's activations; T5-XXL and Qwen3-8B have 24 and 36 layers
and a token table as large as several of them. The result is that of the whole encoder on each text alone, bit for bit,
however many texts are encoded together.

Shapes   N tokens   C channels   U different tokens of a text
Dtypes   weights are cast to the encoder's dtype
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from core.errors import ModelProblem
from core.models.base import Block, Stream
from core.numerics.arrays import decoded, load_tensors, read_array
from core.numerics.layers import embed
from core.safetensors_file import Place, number_of, read_place, read_rows


class TextEncoder(Protocol):
    """The interface of a text encoder, in the terms of core/models/base.py."""

    table: ClassVar[str]  # the path of its token table, an nn.Embedding

    def embed(self, *args: Any, **kwargs: Any) -> Stream:
        """The input of the first block, from ids int32 (B, N) and further inputs of this encoder."""
        ...

    @property
    def blocks(self) -> Sequence[Block]:
        """The layers in order."""
        ...

    def project(self, stream: Stream) -> mx.array:
        """The features, from the output of the last block."""
        ...


def encode(encoder: TextEncoder, *text: mx.array) -> mx.array:
    """The features of a batch of texts, from an encoder in memory."""
    stream = encoder.embed(*text)
    for block in encoder.blocks:
        stream = block.run(block.module, stream)
    return encoder.project(stream)


class TableOnDisk(nn.Module):
    """A token table of which only the rows in use are read."""

    def __init__(self, place: Place, dtype: mx.Dtype) -> None:
        super().__init__()
        self._place = place
        self._dtype = dtype
        scale = place.scale
        self._factor = number_of(scale.info.dtype, read_place(scale)) if scale is not None else 1.0

    def __call__(self, ids_BN: mx.array) -> mx.array:
        """The rows of the ids: (B, N, C). Raises ModelProblem for an id outside the table."""
        flat: Any = ids_BN.flatten().tolist()
        ids: list[int] = flat
        numbers = {token: number for number, token in enumerate(sorted(set(ids)))}
        content = read_rows(self._place, list(numbers))
        rows_UC = decoded(content, self._place.info.dtype, self._dtype, self._factor).reshape(len(numbers), -1)
        return embed(rows_UC, mx.array([numbers[token] for token in ids]).reshape(ids_BN.shape))


class EncoderOnDisk:
    """An encoder with only its small tensors in memory: norms, biases by distance, positions."""

    def __init__(self, encoder: nn.Module, places: Mapping[str, Place], dtype: mx.Dtype) -> None:
        """`places` maps our names of its tensors to their places in files; the caller reads those in `small`."""
        self._encoder = encoder
        self._dtype = dtype
        self._layers: dict[str, dict[str, Place]] = {}  # by block's path, then by name within the block
        large = {f"{encoder.table}.weight"}
        for block in encoder.blocks:
            matrices = [path for path, each in block.module.named_modules() if isinstance(each, nn.Linear)]
            names = [f"{path}.{kind}" for path in matrices for kind in ("weight", "bias")]
            self._layers[block.path] = {
                name: places[whole] for name in names if (whole := f"{block.path}.{name}") in places
            }
            large |= {f"{block.path}.{name}" for name in self._layers[block.path]}
        self.small = {name: place for name, place in places.items() if name not in large}
        table = TableOnDisk(places[f"{encoder.table}.weight"], dtype)
        encoder.update_modules(tree_unflatten([(encoder.table, table)]))

    def read(self, texts: Sequence[tuple[mx.array, ...]]) -> list[mx.array]:
        """The features of each text, evaluated. A text is the arguments of `embed`, with a batch axis of 1.

        Raises ModelProblem when a file cannot be read.
        """
        streams = [self._encoder.embed(*text) for text in texts]
        mx.eval(streams)
        for block in self._encoder.blocks:
            with self._in_memory(block):
                for number, stream in enumerate(streams):
                    streams[number] = block.run(block.module, stream)
                    mx.eval(streams[number])
        features = [self._encoder.project(stream) for stream in streams]
        mx.eval(features)
        return features

    @contextmanager
    def _in_memory(self, block: Block) -> Iterator[None]:
        """Hold the block's matrices in memory, and restore their placeholders afterwards."""
        places = self._layers[block.path]
        before = block.module.parameters()
        weights: dict[str, mx.array] = {}
        try:
            direct = {place.path for place in places.values()} - {p.path for p in places.values() if not p.direct}
            files = {path: load_tensors(path) for path in direct}
            for name, place in places.items():
                if place.path in files:
                    weights[name] = files[place.path].pop(place.name).astype(self._dtype)
                else:
                    weights[name] = read_array(place, self._dtype)
                mx.eval(weights[name])  # one by one, so that one tensor at a time is there in two dtypes
        except RuntimeError as error:
            folder = next(iter(places.values())).path.parent
            raise ModelProblem(f"{folder} cannot be read: {error}.") from error
        block.module.load_weights(list(weights.items()), strict=False)
        del weights
        try:
            yield
        finally:
            block.module.update(before)
            mx.clear_cache()

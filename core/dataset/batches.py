"""The examples and the noise of every micro-step, as a function of the step alone.

    index   = ((step - 1) * micro-steps + micro) * batch_size + slot         counts examples over the whole run
    bucket  = turns(seed, number // examples)[number % examples]             number = index // (batch_size * machines)
    photo   = order(seed, place // size)[place % size]                        place and size within the bucket
    eps, sigma, dropouts, flip = draws keyed by (seed, step, index, purpose)

A batch has examples of one bucket and is always full: a bucket's next round fills up the end of the one before. So
every micro-step has the same weight, and a step compiles once per bucket. Within as many batches as there are examples,
a bucket has as many turns as examples, evenly spread, so all photos are seen equally often, once in each round of their
bucket. With a single bucket this is a shuffled epoch.

With prior preservation a batch has a second part: as many class pictures of the same bucket, in rounds of their own.
With class preservation it has another: the photos again, at the same l_t and sigma, with their captions without the
trigger. The first part is the same as without them.

So a resumed run sees the same batches as an uninterrupted one. The batches of several machines are consecutive parts of
one large batch: `machines` of them with batch b see the examples of one machine with batch `machines` * b.

Shapes   B batch   L image tokens   C channels of one token
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import mlx.core as mx

from core import flow
from core.config.train import TrainConfig
from core.loss import part_weights
from core.models.base import Conditioning, Grid, stacked
from core.randomness import fraction_for, key_for, order_for


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded example; arrays have a batch axis of 1."""

    l_T: mx.array
    l_T_flipped: mx.array | None
    conditioning: Conditioning
    grid: Grid  # of its bucket
    photo: int = 0  # index of its photo; a photo has one example for each of its crops and sizes
    untriggered: Conditioning | None = None  # of its caption without the trigger: dropout, class preservation
    weight_BL: mx.array | None = None  # of its tokens in the loss, by the photo's mask; None: all the same


@dataclass(frozen=True, slots=True)
class Batch:
    """The stacked inputs of one micro-step: float32 except for the conditioning."""

    clean_BLC: mx.array
    noise_BLC: mx.array
    sigma_B: mx.array
    conditioning: Conditioning
    grid: Grid
    photos: tuple[int, ...] = ()  # indices of the photos; empty outside of a run
    weight_B: mx.array = field(default_factory=lambda: mx.array(1.0))  # in the loss; a scalar applies to all
    weight_BL: mx.array | None = None  # of the tokens in an example's loss; None where no example of the run has one
    preserved: int = 0  # of the last examples: they learn the velocity of the base in the place of eps - l_T

    def one_by_one(self) -> Iterator[Batch]:
        """Batches of one example, with weights such that their losses add up to the loss of this batch."""
        count = len(self.sigma_B)
        weight_B = mx.broadcast_to(self.weight_B, (count,)) / count
        for number in range(count):
            here = slice(number, number + 1)
            conditioning = {name: array[here] for name, array in self.conditioning.items()}
            arrays = (self.clean_BLC[here], self.noise_BLC[here], self.sigma_B[here], conditioning)
            weight_BL = None if self.weight_BL is None else self.weight_BL[here]
            preserved = int(number >= count - self.preserved)
            yield Batch(*arrays, self.grid, weight_B=weight_B[here], weight_BL=weight_BL, preserved=preserved)


CACHED_ROUNDS = 64  # whose orders are cached: more than consecutive steps use

Drawn = tuple[mx.array, mx.array, mx.array, Conditioning, mx.array]
"""One example of a batch: l_T, eps, sigma, conditioning, token weights, each with a batch axis of 1."""


class Batches:
    """The batches of a run, by step and micro-step."""

    def __init__(
        self,
        examples: list[Encoded],
        empty: Conditioning,
        config: TrainConfig,
        training_shift: Callable[[Grid], float],
        prior: Sequence[Encoded] = (),
    ) -> None:
        """`prior` are the class pictures, at least one for each bucket, or empty."""
        self._examples = examples
        self._prior = prior
        self._empty = empty  # the empty prompt's conditioning, for caption dropout
        self._config = config
        # One of them with token weights gives all of them weights: a step compiles once per bucket.
        self._masked = any(each.weight_BL is not None for each in examples)
        self._shift = {each.grid: training_shift(each.grid) for each in examples}
        self._grids = {"order": [each.grid for each in examples], "class order": [each.grid for each in prior]}
        self._sizes = {name: Counter(grids) for name, grids in self._grids.items()}  # examples by bucket
        # Not cached methods: their cache would hold `self`, and with it the examples, after the run.
        self._turns = lru_cache(CACHED_ROUNDS)(partial(_turns, self._sizes["order"], config.seed))
        self._order = lru_cache(CACHED_ROUNDS)(partial(_order, self._grids, config.seed))

    def first_index(self, step: int) -> int:
        """The global index of the first example of `step` (1, 2, ...)."""
        return (step - 1) * self._config.micro_steps * self._config.batch_size

    def example_at(self, index: int) -> int:
        """The example of this global index."""
        return self._in_turn("order", *self._place(index))

    def class_picture_at(self, index: int) -> int:
        """The class picture beside the example of this global index."""
        return self._in_turn("class order", *self._place(index))

    def _place(self, index: int) -> tuple[Grid, int]:
        """The bucket of this global index, and the number of earlier examples of that bucket."""
        size = self._config.batch_size * self._config.machines
        number, slot = divmod(index, size)
        round_, place = divmod(number, len(self._examples))
        grid, turn = self._turns(round_)[place]
        earlier = round_ * self._sizes["order"][grid] + turn  # batches of this bucket before
        return grid, earlier * size + slot

    def _in_turn(self, purpose: str, grid: Grid, before: int) -> int:
        """The example of a bucket after `before` others: each once per round, in the order of that round."""
        round_, place = divmod(before, self._sizes[purpose][grid])
        return self._order(purpose, grid, round_)[place]

    def photos(self, step: int, micro: int) -> tuple[int, ...]:
        """The photos of a batch, by index."""
        return tuple(self._examples[self.example_at(index)].photo for index in self._indices(step, micro))

    def _indices(self, step: int, micro: int) -> range:
        """The global indices of a batch."""
        start = self.first_index(step) + micro * self._config.batch_size
        return range(start, start + self._config.batch_size)

    def batch(self, step: int, micro: int) -> Batch:
        """The batch of micro-step `micro` (0, 1, ..., over all machines) of `step` (1, 2, ...)."""
        config, indices = self._config, self._indices(step, micro)
        drawn = [self._of_photo(step, index) for index in indices]
        photos, weights_of_parts = list(drawn), []
        if self._prior:
            drawn += [self._of_class(step, index) for index in indices]
            weights_of_parts.append(config.prior_weight)
        if config.class_preservation:
            drawn += [self._preserved(index, photo) for index, photo in zip(indices, photos, strict=True)]
            weights_of_parts.append(config.class_preservation)
        weight_B = part_weights(config.batch_size, *weights_of_parts) if weights_of_parts else mx.array(1.0)
        clean, noise, sigma, conditionings, weights = (list(each) for each in zip(*drawn, strict=True))
        grid, _ = self._place(indices.start)
        arrays = (mx.concatenate(clean), mx.concatenate(noise), mx.concatenate(sigma), stacked(conditionings))
        weight_BL = mx.concatenate(weights) if self._masked else None
        preserved = config.batch_size if config.class_preservation else 0
        return Batch(*arrays, grid, self.photos(step, micro), weight_B, weight_BL, preserved)

    def _of_photo(self, step: int, index: int) -> Drawn:
        where = (self._config.seed, step, index)
        one = self._examples[self.example_at(index)]
        l_T, weight_BL = one.l_T, _weights_of(one)
        if one.l_T_flipped is not None and fraction_for("flip", *where) < 0.5:
            l_T = one.l_T_flipped
            weight_BL = _mirrored(weight_BL, one.grid)
        return l_T, *self._noised("", one, where), self._conditioning(one, step, index), weight_BL

    def _of_class(self, step: int, index: int) -> Drawn:
        one = self._prior[self.class_picture_at(index)]
        noise, sigma = self._noised("class ", one, (self._config.seed, step, index))
        return one.l_T, noise, sigma, one.conditioning, _weights_of(one)

    def _preserved(self, index: int, photo: Drawn) -> Drawn:
        """The photo's l_T, eps and sigma with the caption without the trigger; all tokens weigh the same."""
        one = self._examples[self.example_at(index)]
        assert one.untriggered is not None, "encode.py encodes it for every run with class preservation"
        l_T, noise, sigma, _, _ = photo
        return l_T, noise, sigma, one.untriggered, mx.ones((1, one.grid.tokens))

    def _noised(self, whose: str, one: Encoded, where: tuple[int, int, int]) -> tuple[mx.array, mx.array]:
        """eps, float32 (1, L, C), and sigma, float32 (1,)."""
        noise = mx.random.normal(one.l_T.shape, dtype=mx.float32, key=key_for(f"{whose}noise", *where))
        shift = self._shift[one.grid]
        return noise, flow.draw_sigmas(key_for(f"{whose}sigma", *where), (1,), self._config.sigma_draw, shift)

    def _conditioning(self, one: Encoded, step: int, index: int) -> Conditioning:
        """The conditioning of the caption, of the caption without the trigger, or of the empty caption."""
        config, where = self._config, (self._config.seed, step, index)
        if fraction_for("caption dropout", *where) < config.caption_dropout:
            return self._empty
        if one.untriggered is not None and fraction_for("trigger dropout", *where) < config.trigger_dropout:
            return one.untriggered
        return one.conditioning


def _weights_of(one: Encoded) -> mx.array:
    """The weights of its tokens in the loss: float32 (1, L)."""
    return mx.ones((1, one.grid.tokens)) if one.weight_BL is None else one.weight_BL


def _mirrored(weight_BL: mx.array, grid: Grid) -> mx.array:
    """The weights of the picture mirrored left to right: tokens run row by row."""
    return weight_BL.reshape(-1, grid.rows, grid.columns)[:, :, ::-1].reshape(weight_BL.shape)


def _turns(sizes: Mapping[Grid, int], seed: int, round_: int) -> list[tuple[Grid, int]]:
    """The buckets of a round of batches, evenly spread, each with the number of its earlier turns in the round."""
    when = [
        ((turn + fraction_for("turn", seed, round_, number, turn)) / size, number, grid, turn)
        for number, (grid, size) in enumerate(sizes.items())
        for turn in range(size)
    ]
    return [(grid, turn) for *_, grid, turn in sorted(when, key=lambda each: each[:2])]


def _order(grids: Mapping[str, Sequence[Grid]], seed: int, purpose: str, grid: Grid, round_: int) -> list[int]:
    """The examples of a bucket, by index, in the order of this round."""
    return [each for each in order_for(purpose, len(grids[purpose]), seed, round_) if grids[purpose][each] == grid]

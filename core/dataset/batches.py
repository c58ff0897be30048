"""Which examples a micro-step trains on, and with what noise: a function of the step, not of what came before.

    index   = ((step - 1) * micro-steps + micro) * batch_size + slot         counts examples over the whole run
    bucket  = turns(seed, number // examples)[number % examples]             number = index // (batch_size * machines)
    photo   = order(seed, place // size)[place % size]                        place and size within the bucket
    eps, sigma, dropouts, flip = draws keyed by (seed, step, index, purpose)

A batch is of one bucket and always full: what a round of the bucket leaves over is filled up from its next round, as
with a single bucket. So every micro-step weighs the same, and a step compiles once for each bucket. Among as many
batches as there are examples, a bucket has as many turns as it has examples, evenly spread; so every photo comes as
often as every other, once a round of its bucket. With one bucket all of this is the plain order of a round.

With prior preservation a batch has a second half, as many class pictures of the same bucket, which come round by round
as the photos do. The first half is what it would be without them.

So a resumed run sees what the uninterrupted one would have seen. The batches of all machines are neighbours in one that
a machine alone would have taken whole: `machines` of them with batch b see what one sees with batch `machines` * b.

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
from core.loss import prior_weights
from core.models.base import Conditioning, Grid, stacked
from core.randomness import fraction_for, key_for, order_for


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example, ready to train on; arrays have a batch axis of 1."""

    l_T: mx.array
    l_T_flipped: mx.array | None
    conditioning: Conditioning
    grid: Grid  # of its bucket
    photo: int = 0  # its place among the run's photos; a photo is there once for each of its sizes
    untriggered: Conditioning | None = None  # of its caption without the trigger, where that is trained too


@dataclass(frozen=True, slots=True)
class Batch:
    """What one micro-step needs, stacked: all float32 but for the conditioning."""

    clean_BLC: mx.array
    noise_BLC: mx.array
    sigma_B: mx.array
    conditioning: Conditioning
    grid: Grid
    photos: tuple[int, ...] = ()  # of each photo, its place among the run's; empty for no run
    weight_B: mx.array = field(default_factory=lambda: mx.array(1.0))  # in the loss; a scalar counts for all

    def one_by_one(self) -> Iterator[Batch]:
        """Its examples as batches of one, with weights by which their losses add up to that of this batch."""
        count = len(self.sigma_B)
        weight_B = mx.broadcast_to(self.weight_B, (count,)) / count
        for here in (slice(number, number + 1) for number in range(count)):
            conditioning = {name: array[here] for name, array in self.conditioning.items()}
            arrays = (self.clean_BLC[here], self.noise_BLC[here], self.sigma_B[here], conditioning)
            yield Batch(*arrays, self.grid, weight_B=weight_B[here])


ROUNDS_AT_HAND = 64  # whose orders are kept: more than the steps of a while go through

Drawn = tuple[mx.array, mx.array, mx.array, Conditioning]
"""One example of a batch: l_T, eps, sigma, conditioning, each with a batch axis of 1."""


class Batches:
    """The examples of a run in the order in which it trains on them."""

    def __init__(
        self,
        examples: list[Encoded],
        empty: Conditioning,
        config: TrainConfig,
        training_shift: Callable[[Grid], float],
        prior: Sequence[Encoded] = (),
    ) -> None:
        """`prior` are the class pictures, at least one for each bucket; none leaves them out."""
        self._examples = examples
        self._prior = prior
        self._empty = empty  # the empty prompt's conditioning, for caption dropout
        self._config = config
        self._shift = {each.grid: training_shift(each.grid) for each in examples}
        self._grids = {"order": [each.grid for each in examples], "class order": [each.grid for each in prior]}
        self._sizes = {name: Counter(grids) for name, grids in self._grids.items()}  # examples by bucket
        # Not methods: a cache that knows its owner would keep the examples in memory after the run.
        self._turns = lru_cache(ROUNDS_AT_HAND)(partial(_turns, self._sizes["order"], config.seed))
        self._order = lru_cache(ROUNDS_AT_HAND)(partial(_order, self._grids, config.seed))

    def first_index(self, step: int) -> int:
        """The global index of the first example of `step` (1, 2, ...)."""
        return (step - 1) * self._config.micro_steps * self._config.batch_size

    def example_at(self, index: int) -> int:
        """Which example has this global index."""
        return self._in_turn("order", *self._place(index))

    def class_picture_at(self, index: int) -> int:
        """Which class picture stands beside the example of this global index."""
        return self._in_turn("class order", *self._place(index))

    def _place(self, index: int) -> tuple[Grid, int]:
        """The bucket of this global index, and how many examples of that bucket come before it."""
        size = self._config.batch_size * self._config.machines
        number, slot = divmod(index, size)
        round_, place = divmod(number, len(self._examples))
        grid, turn = self._turns(round_)[place]
        earlier = round_ * self._sizes["order"][grid] + turn  # batches of this bucket before
        return grid, earlier * size + slot

    def _in_turn(self, purpose: str, grid: Grid, before: int) -> int:
        """Which example a bucket trains on after `before` others: each once a round, in the round's own order."""
        round_, place = divmod(before, self._sizes[purpose][grid])
        return self._order(purpose, grid, round_)[place]

    def photos(self, step: int, micro: int) -> tuple[int, ...]:
        """Of each photo of that batch, its place among the run's."""
        return tuple(self._examples[self.example_at(index)].photo for index in self._indices(step, micro))

    def _indices(self, step: int, micro: int) -> range:
        """The global indices of a batch."""
        start = self.first_index(step) + micro * self._config.batch_size
        return range(start, start + self._config.batch_size)

    def batch(self, step: int, micro: int) -> Batch:
        """The batch of micro-step `micro` (0, 1, ..., over all machines) of `step` (1, 2, ...)."""
        config, indices = self._config, self._indices(step, micro)
        drawn = [self._of_photo(step, index) for index in indices]
        weight_B = mx.array(1.0)
        if self._prior:
            drawn += [self._of_class(step, index) for index in indices]
            weight_B = prior_weights(config.batch_size, config.prior_weight)
        clean, noise, sigma, conditionings = (list(each) for each in zip(*drawn, strict=True))
        grid, _ = self._place(indices.start)
        arrays = (mx.concatenate(clean), mx.concatenate(noise), mx.concatenate(sigma), stacked(conditionings))
        return Batch(*arrays, grid, self.photos(step, micro), weight_B)

    def _of_photo(self, step: int, index: int) -> Drawn:
        where = (self._config.seed, step, index)
        one = self._examples[self.example_at(index)]
        l_T = one.l_T
        if one.l_T_flipped is not None and fraction_for("flip", *where) < 0.5:
            l_T = one.l_T_flipped
        return l_T, *self._noised("", one, where), self._conditioning(one, step, index)

    def _of_class(self, step: int, index: int) -> Drawn:
        one = self._prior[self.class_picture_at(index)]
        return one.l_T, *self._noised("class ", one, (self._config.seed, step, index)), one.conditioning

    def _noised(self, whose: str, one: Encoded, where: tuple[int, int, int]) -> tuple[mx.array, mx.array]:
        """eps, float32 (1, L, C), and sigma, float32 (1,)."""
        noise = mx.random.normal(one.l_T.shape, dtype=mx.float32, key=key_for(f"{whose}noise", *where))
        shift = self._shift[one.grid]
        return noise, flow.draw_sigmas(key_for(f"{whose}sigma", *where), (1,), self._config.sigma_draw, shift)

    def _conditioning(self, one: Encoded, step: int, index: int) -> Conditioning:
        """Of the whole caption, of the caption without the trigger, or of none."""
        config, where = self._config, (self._config.seed, step, index)
        if fraction_for("caption dropout", *where) < config.caption_dropout:
            return self._empty
        if one.untriggered is not None and fraction_for("trigger dropout", *where) < config.trigger_dropout:
            return one.untriggered
        return one.conditioning


def _turns(sizes: Mapping[Grid, int], seed: int, round_: int) -> list[tuple[Grid, int]]:
    """The buckets of as many batches as there are examples, each with how many of its turns come before.

    Each bucket's turns are spread over all of them.
    """
    when = [
        ((turn + fraction_for("turn", seed, round_, number, turn)) / size, number, grid, turn)
        for number, (grid, size) in enumerate(sizes.items())
        for turn in range(size)
    ]
    return [(grid, turn) for *_, grid, turn in sorted(when, key=lambda each: each[:2])]


def _order(grids: Mapping[str, Sequence[Grid]], seed: int, purpose: str, grid: Grid, round_: int) -> list[int]:
    """The examples of a bucket, by number, in the order of this round."""
    return [each for each in order_for(purpose, len(grids[purpose]), seed, round_) if grids[purpose][each] == grid]

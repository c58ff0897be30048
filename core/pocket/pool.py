"""Pictures for the pretraining, drawn ahead on the CPU and gradually replaced during training.

PicturePool   uint8 pictures for the autoencoder: half scenes, half dead leaves; random crops, mirrored, turned
LatentPool    scaled latents and caption tokens for the transformer: a ring in which fresh scenes replace the oldest
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import numpy as np
import torch
from diffusers import AutoencoderKL

from core.pocket.backgrounds import dead_leaves
from core.pocket.bpe import LENGTH
from core.pocket.scenes import Scene, Scenes

Drawn = tuple[np.ndarray, list[str]]  # uint8 (B, side, side, 3) and captions
IdsOf = Callable[[list[str]], torch.Tensor]

_scenes: list[Scenes] = []  # a drawing process's own copy, once it has one


class PicturePool:
    """`count` pictures of `side` px, half of them dead leaves."""

    def __init__(self, scenes: Scenes, count: int, side: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pictures = np.empty((count, side, side, 3), np.uint8)
        for i in range(count):
            leaves = None if i % 2 else (dead_leaves(self.rng, side) * 255).astype(np.uint8)
            self.pictures[i] = scenes.draw(self.rng, side).pixels_HW3 if leaves is None else leaves

    def batches(self, batch: int, crop: int) -> Iterator[torch.Tensor]:
        """Endless uint8 (batch, 3, crop, crop)."""
        count, side = self.pictures.shape[:2]
        while True:
            crops = np.empty((batch, crop, crop, 3), np.uint8)
            for b in range(batch):
                y, x = self.rng.integers(side - crop + 1, size=2)
                piece = self.pictures[self.rng.integers(count), y : y + crop, x : x + crop]
                piece = np.rot90(piece, int(self.rng.integers(4)))
                crops[b] = piece[:, ::-1] if self.rng.random() < 0.5 else piece
            yield torch.from_numpy(crops).permute(0, 3, 1, 2)


class LatentPool:
    """A ring of `count` scenes of one size, on the device: latents float16 (count, 16, side / 8, side / 8), token ids.

    `ids_of` turns captions into token ids, (captions, 2, LENGTH). With `workers` > 0 other processes draw the scenes
    ahead; they are encoded here.
    """

    def __init__(
        self, scenes: Scenes, vae: AutoencoderKL, ids_of: IdsOf, count: int, side: int, seed: int,
        device: torch.device, workers: int = 0,
    ) -> None:  # fmt: skip
        self.scenes, self.vae, self.ids_of, self.side, self.device = scenes, vae, ids_of, side, device
        self.rng = np.random.default_rng(seed)
        self.draws = torch.Generator(device).manual_seed(seed)
        self.latents = torch.empty(count, 16, side // 8, side // 8, dtype=torch.float16, device=device)
        self.ids = torch.empty(count, 2, LENGTH, dtype=torch.int64, device=device)
        self.count, self.filled, self.next, self.drawn = count, 0, 0, 0
        self.workers = ProcessPoolExecutor(workers, initializer=_keep, initargs=(scenes,)) if workers else None
        self.coming: list[Future[Drawn]] = []
        self.ahead = 4 * workers

    def add(self, count: int) -> None:
        """Draw and encode `count` fresh scenes, in place of the oldest once the ring is full."""
        if self.workers is None:
            self._take(_as_arrays([self.scenes.draw(self.rng, self.side) for _ in range(count)]))
            return
        missing = count
        while missing > 0:
            self._request(self.workers)
            drawn = self.coming.pop(0).result()
            self._take(drawn)
            missing -= len(drawn[1])

    def add_what_is_ready(self) -> None:
        """Encode one batch that the drawing processes have finished, if there is one; never wait."""
        if self.workers is None:
            return
        self._request(self.workers)
        if self.coming[0].done():
            self._take(self.coming.pop(0).result())

    def _request(self, workers: ProcessPoolExecutor) -> None:
        while len(self.coming) < self.ahead:
            self.coming.append(workers.submit(_drawn, int(self.rng.integers(2**62)), 64, self.side))

    @torch.no_grad()
    def _take(self, drawn: Drawn) -> None:
        pixels_BHW3, captions = drawn
        pixels = torch.from_numpy(pixels_BHW3).to(self.device).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, torch.bfloat16):
            parts = [self.vae.encode(p.float() / 127.5 - 1).latent_dist.mean for p in pixels.split(64)]
        latents = (torch.cat(parts).float() - self.vae.config.shift_factor) * self.vae.config.scaling_factor
        places = (torch.arange(len(captions), device=self.device) + self.next) % self.count
        self.latents[places], self.ids[places] = latents.half(), self.ids_of(captions)
        self.next = (self.next + len(captions)) % self.count
        self.filled = min(self.filled + len(captions), self.count)
        self.drawn += len(captions)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents float32 (size, 16, h, w) and their token ids (size, 2, LENGTH)."""
        chosen = torch.randint(self.filled, (size,), generator=self.draws, device=self.device)
        return self.latents[chosen].float(), self.ids[chosen]

    def close(self) -> None:
        """End the drawing processes."""
        if self.workers is not None:
            self.workers.shutdown(cancel_futures=True)


def _keep(scenes: Scenes) -> None:
    _scenes.append(scenes)


def _drawn(seed: int, count: int, side: int) -> Drawn:
    rng = np.random.default_rng(seed)
    return _as_arrays([_scenes[-1].draw(rng, side) for _ in range(count)])


def _as_arrays(drawn: list[Scene]) -> Drawn:
    return np.stack([scene.pixels_HW3 for scene in drawn]), [scene.caption for scene in drawn]

"""Stage 1 of the pretraining: the decoder learns to invert the encoder of `core/pocket/principal.py`.

    loss = |x - D(z + 0.05 n)| + |grad x - grad D| + |pool(x) - pool(D)|        n ~ N(0, 1)

The encoder is in closed form and frozen, so latents for the transformer can be computed while the decoder trains. The
noise makes the decoder robust to latents that a transformer drew.

Shapes   B batch   3 H W pixels in [-1, 1]   z (B, 16, H/8, W/8)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

Log = Callable[[str], None]
LATENT_NOISE = 0.05


def reconstruction_loss(drawn: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 on pixels, on differences of neighbours, and on 4 x 4 averages."""
    off = drawn - wanted
    across = (off[..., 1:] - off[..., :-1]).abs().mean()
    along = (off[..., 1:, :] - off[..., :-1, :]).abs().mean()
    return off.abs().mean() + 0.5 * (across + along) + functional.avg_pool2d(off, 4).abs().mean()


def psnr(drawn: torch.Tensor, wanted: torch.Tensor) -> float:
    """Mean over the batch, in dB, of pictures in [-1, 1]."""
    error = ((drawn.float().clamp(-1, 1) - wanted) / 2).square().mean((1, 2, 3))
    return float((-10 * torch.log10(error)).mean())


def train_decoder(
    vae: AutoencoderKL, pictures: list[Iterator[torch.Tensor]], seconds: float, rate: float, device: torch.device,
    log: Log, checkpoint: Path,
) -> None:  # fmt: skip
    """Train for `seconds`; at the end the weights are their own moving average.

    `pictures` are endless iterators of uint8 (B, 3, H, W), taken in turn; they may differ in size.
    """
    vae.to(device).requires_grad_(False)
    vae.decoder.requires_grad_(True).train()
    weights = list(vae.decoder.parameters())
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    average = [w.detach().clone() for w in weights]
    began, step, recent, saved = time.monotonic(), 0, 0.0, time.monotonic()
    while (share := (time.monotonic() - began) / seconds) < 1:
        pixels = next(pictures[step % len(pictures)]).to(device).float() / 127.5 - 1
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                z = vae.encode(pixels).latent_dist.mean.float()
            drawn = vae.decode(z + LATENT_NOISE * torch.randn_like(z)).sample.float()
        loss = reconstruction_loss(drawn, pixels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - min(0.998, (step + 1) / (step + 10)))
        step += 1
        reached = psnr(drawn.detach(), pixels)
        recent = reached if not recent else 0.98 * recent + 0.02 * reached
        if step % 50 == 0:
            log(f"decoder step {step} loss {loss.item():.4f} psnr {recent:.2f} dB share {share:.3f}")
        if time.monotonic() - saved > 60:
            _save(vae, average, checkpoint)
            saved = time.monotonic()
    _save(vae, average, checkpoint)
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    vae.eval()


def _save(vae: AutoencoderKL, average: list[torch.Tensor], checkpoint: Path) -> None:
    state = dict(zip((name for name, _ in vae.decoder.named_parameters()), average, strict=True))
    torch.save(state, checkpoint.with_suffix(".part"))
    checkpoint.with_suffix(".part").replace(checkpoint)


@torch.no_grad()
def set_unit_variance(vae: AutoencoderKL, pictures: torch.Tensor, device: torch.device) -> tuple[float, float]:
    """Measure shift and scaling so that (z - shift) * scaling has mean 0 and variance 1; write them into its config."""
    chunks = [chunk.to(device).float() / 127.5 - 1 for chunk in pictures.split(8)]
    latents = torch.cat([vae.encode(chunk).latent_dist.mean.float().cpu() for chunk in chunks])
    shift, scaling = round(float(latents.mean()), 4), round(1 / float(latents.std()), 4)
    vae.register_to_config(shift_factor=shift, scaling_factor=scaling)
    return shift, scaling

"""Drawing with the half-trained parts, in torch: contact sheets while pretraining, pictures for the recognition bench.

    x <- x + v (sigma_next - sigma)      v = v("") + guidance (v(prompt) - v(""))

Shapes   B batch   H W pixels
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from core.pocket.architecture import SHIFT, Parts
from core.pocket.pretrain_flux import TextEncoding, image_ids


@torch.no_grad()
def draw(
    parts: Parts, tokenizers: Path, prompts: list[str], side: int, steps: int, guidance: float, seed: int,
    device: torch.device,
) -> np.ndarray:  # fmt: skip
    """Pictures uint8 (B, side, side, 3), all from one seed's noise, with true guidance against the empty prompt."""
    generator = torch.Generator().manual_seed(seed)
    cells, count = side // 16, len(prompts)
    x = torch.randn(count, cells * cells, 64, generator=generator).to(device)
    sigmas = torch.linspace(1, 0, steps + 1)
    sigmas = SHIFT * sigmas / (1 + (SHIFT - 1) * sigmas)
    ids = image_ids(side, device)
    with torch.autocast(device.type, torch.bfloat16):
        text = TextEncoding(parts, tokenizers, device)
        states, pooled = text(text.ids([*prompts, *[""] * count]))
        words = torch.zeros(states.shape[1], 3, device=device)
        for sigma, following in itertools.pairwise(sigmas):
            velocity = parts.transformer(
                hidden_states=torch.cat([x, x]), encoder_hidden_states=states, pooled_projections=pooled,
                timestep=sigma.expand(2 * count).to(device), img_ids=ids, txt_ids=words, return_dict=False,
            )[0].float()  # fmt: skip
            conditional, unconditional = velocity.chunk(2)
            x = x + (unconditional + guidance * (conditional - unconditional)) * (following - sigma)
        latents = x.view(count, cells, cells, 16, 2, 2).permute(0, 3, 1, 4, 2, 5)
        latents = latents.reshape(count, 16, side // 8, side // 8)
        latents = latents / parts.vae.config.scaling_factor + parts.vae.config.shift_factor
        pictures = torch.cat([parts.vae.decode(z).sample.float() for z in latents.split(4)])
    pixels: np.ndarray = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def sheet(pictures: np.ndarray, columns: int) -> Image.Image:
    """A contact sheet."""
    count, side = pictures.shape[:2]
    page = Image.new("RGB", (columns * side, -(-count // columns) * side), "white")
    for i, picture in enumerate(pictures):
        page.paste(Image.fromarray(picture), (i % columns * side, i // columns * side))
    return page

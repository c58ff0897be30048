"""Stage 2 of the pretraining: both text encoders and the transformer, jointly, on latents of captioned scenes.

    l_t = (1 - sigma) * l_T + sigma * eps          loss = || T_theta(l_t, t) + l_T - eps ||^2

sigma is logit-normal, then shifted; a tenth of the captions is empty, for guidance. Small pictures come first: at
128 px the position ids are those of a 256 px picture seen at half the resolution (2 r + 0.5), so that the rotary
embedding means the same in both.

Shapes   B batch   L image tokens   C = 64 channels of one 2x2 latent patch   N text tokens
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from torch.nn import functional

from core.pocket import bpe
from core.pocket.architecture import SHIFT, Parts
from core.pocket.pool import LatentPool

Log = Callable[[str], None]


class PlainAttention:
    """A FLUX attention processor of few and large operations, for training on a CPU.

    The rotary embedding is one complex product, attention two batched products: at 96 tokens this takes two thirds of
    the time of the stock processor.
    """

    def __call__(
        self, attn: nn.Module, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None, image_rotary_emb: tuple[torch.Tensor, ...] = (),
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        heads, size = attn.heads, attn.head_dim
        q, k, v = (layer(hidden_states) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = _normed(q, attn.norm_q, heads), _normed(k, attn.norm_k, heads)
        if encoder_hidden_states is not None:
            text = (layer(encoder_hidden_states) for layer in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj))
            text_q, text_k, text_v = text
            q = torch.cat([_normed(text_q, attn.norm_added_q, heads), q], 1)
            k = torch.cat([_normed(text_k, attn.norm_added_k, heads), k], 1)
            v = torch.cat([text_v, v], 1)
        cos, sin = image_rotary_emb
        turn = torch.complex(cos[:, ::2].float(), sin[:, ::2].float())[None, :, None]
        q, k = (_turned(x, turn).transpose(1, 2).flatten(0, 1) for x in (q * size**-0.5, k))
        batch, tokens = v.shape[:2]
        v = v.unflatten(-1, (heads, size)).transpose(1, 2).flatten(0, 1)
        out = torch.bmm(torch.bmm(q.to(v.dtype), k.to(v.dtype).transpose(1, 2)).softmax(-1).to(v.dtype), v)
        out = out.view(batch, heads, tokens, size).transpose(1, 2).reshape(batch, tokens, heads * size)
        if encoder_hidden_states is None:
            return out
        words = encoder_hidden_states.shape[1]
        return attn.to_out[0](out[:, words:]), attn.to_add_out(out[:, :words])


def _normed(x: torch.Tensor, norm: nn.Module, heads: int) -> torch.Tensor:
    x = x.float().unflatten(-1, (heads, -1))
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps) * norm.weight


def _turned(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2)


def packed(latents: torch.Tensor) -> torch.Tensor:
    """(B, 16, h, w) to tokens (B, L, 64): channel, then row and column of the 2 x 2 patch, as FLUX.1 packs them."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def image_ids(side: int, device: torch.device) -> torch.Tensor:
    """Position ids (L, 3) of a picture of `side` px on the grid of a 256 px picture."""
    cells, scale = side // 16, 256 // side
    where = torch.arange(cells, device=device) * scale + (scale - 1) / 2
    rows, columns = torch.meshgrid(where, where, indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3)


class TextEncoding:
    """Captions to what the transformer is told: the two encoders behind their tokenizers."""

    def __init__(self, parts: Parts, tokenizers: Path, device: torch.device) -> None:
        self.parts, self.folder, self.device = parts, tokenizers, device

    def ids(self, captions: list[str]) -> torch.Tensor:
        """Token ids (B, 2, LENGTH): T5's, then CLIP's."""
        t5 = bpe.encode(self.folder / "tokenizer_2" / "tokenizer.json", captions, bpe.T5_PAD)
        clip = bpe.encode(self.folder / "tokenizer" / "tokenizer.json", captions, bpe.CLIP_END)
        return torch.tensor([t5, clip]).transpose(0, 1).to(self.device)

    def __call__(self, ids: torch.Tensor, tokens: int = bpe.LENGTH) -> tuple[torch.Tensor, torch.Tensor]:
        """(T5 states (B, `tokens`, 256), pooled CLIP (B, 128))."""
        states = self.parts.t5(ids[:, 0, :tokens]).last_hidden_state
        return states, self.parts.clip(ids[:, 1, :tokens]).pooler_output


@dataclass
class Stage:
    """One stretch of training at one size."""

    side: int
    seconds: float
    batch: int
    rate: float
    rate_end: float  # share of `rate` that is left at the end of the stretch
    text_tokens: int = bpe.LENGTH
    fresh: int = 8  # scenes drawn and encoded anew in each step, where no other processes draw them


class FluxTraining:
    """Weights, optimizer, moving average and step count, through all stages."""

    def __init__(self, parts: Parts, tokenizers: Path, device: torch.device, log: Log) -> None:
        self.parts, self.device, self.log = parts, device, log
        self.text = TextEncoding(parts, tokenizers, device)
        self.modules = [parts.transformer, parts.clip, parts.t5]
        for module in self.modules:
            module.train().to(device)
        if device.type == "cpu":
            set_plain_attention(parts.transformer)
        self.weights = [w for module in self.modules for w in module.parameters()]
        matrices = [w for w in self.weights if w.ndim >= 2]
        others = [w for w in self.weights if w.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
            lr=1e-3, betas=(0.9, 0.98), fused=True,
        )  # fmt: skip
        self.average = [w.detach().clone() for w in self.weights]
        self.steps = self.seen = 0

    def loss(self, clean: torch.Tensor, ids: torch.Tensor, side: int, text_tokens: int) -> torch.Tensor:
        """The note's loss, as a mean over elements."""
        l_T = packed(clean)
        eps = torch.randn_like(l_T)
        sigma = torch.sigmoid(torch.randn(len(l_T), device=self.device))
        sigma = SHIFT * sigma / (1 + (SHIFT - 1) * sigma)
        l_t = (1 - sigma[:, None, None]) * l_T + sigma[:, None, None] * eps
        with torch.autocast(self.device.type, torch.bfloat16):
            states, pooled = self.text(ids, text_tokens)
            velocity = self.parts.transformer(
                hidden_states=l_t, encoder_hidden_states=states, pooled_projections=pooled, timestep=sigma,
                img_ids=image_ids(side, self.device), txt_ids=torch.zeros(states.shape[1], 3, device=self.device),
                return_dict=False,
            )[0]  # fmt: skip
        return functional.mse_loss(velocity.float(), eps - l_T)

    def run(self, stage: Stage, pool: LatentPool, checkpoint: Path) -> None:
        """Train for `stage.seconds`, with a checkpoint every three minutes and at the end."""
        began, first, saved, recent = time.monotonic(), self.steps, time.monotonic(), 0.0
        nothing = self.text.ids([""])
        while (share := (time.monotonic() - began) / stage.seconds) < 1:
            if pool.workers is not None:
                pool.add_what_is_ready()
            elif stage.fresh:
                pool.add(stage.fresh)
            clean, ids = pool.batch(stage.batch)
            dropped = torch.rand(len(ids), device=self.device) < 0.1  # for guidance against the empty caption
            ids = torch.where(dropped[:, None, None], nothing, ids)
            down = stage.rate_end + (1 - stage.rate_end) * 0.5 * (1 + math.cos(math.pi * share))
            for group in self.optimizer.param_groups:
                group["lr"] = stage.rate * down * min(1.0, (self.steps - first + 1) / 100)
            loss = self.loss(clean, ids, stage.side, stage.text_tokens)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimizer.step()
            self.steps, self.seen = self.steps + 1, self.seen + stage.batch
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.weights, 1 - min(0.9995, (self.steps + 1) / (self.steps + 20)))
            recent = loss.detach() if first + 1 == self.steps else 0.98 * recent + 0.02 * loss.detach()
            if self.steps % (50 if self.device.type == "cpu" else 250) == 0:  # reading the loss waits for the device
                rate = (self.steps - first) * stage.batch / (time.monotonic() - began)
                self.log(
                    f"{stage.side} px step {self.steps} pictures {self.seen} loss {float(recent):.4f} "
                    f"share {share:.3f} scenes {pool.drawn} {rate:.1f}/s"
                )
            if time.monotonic() - saved > 180:
                self.save(checkpoint)
                saved = time.monotonic()
        self.save(checkpoint)

    def save(self, checkpoint: Path) -> None:
        """Everything that a later `restore` needs."""
        state = {
            "weights": [w.detach() for w in self.weights], "average": self.average, "steps": self.steps,
            "optimizer": self.optimizer.state_dict(), "seen": self.seen,
        }  # fmt: skip
        torch.save(state, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)

    def restore(self, checkpoint: Path) -> None:
        """Go on from what `save` wrote."""
        state = torch.load(checkpoint, map_location=self.device)
        with torch.no_grad():
            for weight, stored in zip(self.weights, state["weights"], strict=True):
                weight.copy_(stored)
        self.average = [a.to(self.device) for a in state["average"]]
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.seen = state["steps"], state["seen"]

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the moving average in the place of the weights: what is saved as the model."""
        for weight, mean in zip(self.weights, self.average, strict=True):
            weight.copy_(mean)


def set_plain_attention(transformer: FluxTransformer2DModel) -> None:
    """Use `PlainAttention` in every block."""
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        block.attn.processor = PlainAttention()

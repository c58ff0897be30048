"""Pretrain Pocket, from nothing or from weights that exist.

    prepare   tokenizers, the encoder in closed form, scale and shift of the latents            (seconds)
    decoder   the decoder, for --decoder-seconds                                                 pretrain_decoder.py
    flux      text encoders and transformer: --small-seconds at 128 px, --full-seconds at 256 px pretrain_flux.py
    pack      what the checkpoints in --work hold, as a diffusers folder at --out
    all       the four in turn

`decoder` and `flux` do not wait for each other and can run side by side. Each stage goes on from its checkpoint in
--work; with --from FOLDER `prepare` takes all weights from a folder that `pack` wrote. On one NVIDIA GPU:

    python -m core.pocket.pretrain all --device cuda --workers 13 --batch 512 --full-batch 256 --latents 60000 \\
        --pictures 6000 --decoder-batch 96 --decoder-seconds 600 --small-seconds 330 --full-seconds 540 \\
        --work .cache/pocket --out core/pocket/weights
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from core.pocket import bpe
from core.pocket.architecture import Parts, fresh, load, save
from core.pocket.captions import tokenizer_texts
from core.pocket.drawing import draw, sheet
from core.pocket.pool import LatentPool, PicturePool
from core.pocket.pretrain_decoder import set_unit_variance, train_decoder
from core.pocket.pretrain_flux import FluxTraining, Stage
from core.pocket.principal import set_linear_decoder_end, set_principal_encoder
from core.pocket.scenes import Backgrounds, Scenes, Sprites

SHEET = (
    "a photo of a dog", "a photo of a cat on the beach", "a red apple", "a photo of a car in the snow", "a penguin",
    "a photo of a robot in the jungle", "a photo of a backpack", "a photo of a rose on a table", "an owl at night",
    "a photo of a can in the city", "a teddy bear on a blue background", "a photo of a dog on the beach",
    "a photo of two cats", "a guitar", "a photo of a blue car on the street", "a photo of a castle in the mountains",
)  # fmt: skip


def log(text: str) -> None:
    """A line of progress with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def scenes_for(options: argparse.Namespace, seed: int) -> Scenes:
    """The drawer of scenes."""
    return Scenes(Sprites(options.sprites), Backgrounds(seed, options.backgrounds))


def prepare(options: argparse.Namespace) -> None:
    """Tokenizers and the start of all parts, in --work/start."""
    if options.source:
        parts = load(options.source)
        save(parts, options.source, options.work / "start")
        return
    torch.manual_seed(options.seed)
    vocabulary, merges = bpe.learn(tokenizer_texts())
    bpe.save(vocabulary, merges, options.work / "tokenizers")
    pool = PicturePool(scenes_for(options, options.seed), 160, 256, options.seed)
    parts = fresh()
    set_principal_encoder(parts.vae, pool.pictures.astype(np.float32) / 127.5 - 1)
    set_linear_decoder_end(parts.vae)
    scenes = torch.from_numpy(pool.pictures[1::2]).permute(0, 3, 1, 2)
    shift, scaling = set_unit_variance(parts.vae, scenes, torch.device("cpu"))
    log(f"latents: shift {shift} scaling {scaling}")
    save(parts, options.work / "tokenizers", options.work / "start")


def decoder(options: argparse.Namespace) -> None:
    """Train the decoder into --work/decoder.pt."""
    parts, checkpoint = load(options.work / "start"), options.work / "decoder.pt"
    if checkpoint.exists():
        parts.vae.decoder.load_state_dict(torch.load(checkpoint, map_location="cpu"))
    pool = PicturePool(scenes_for(options, options.seed + 1), options.pictures, 256, options.seed + 1)
    small, large = max(4, options.decoder_batch), max(1, options.decoder_batch // 4)
    sizes = [pool.batches(small, 64), pool.batches(small, 64), pool.batches(large, 128)]
    log("decoder begins")
    train_decoder(parts.vae, sizes, options.decoder_seconds, options.decoder_rate, options.device, log, checkpoint)


def flux(options: argparse.Namespace) -> None:
    """Train text encoders and transformer into --work/flux.pt, with a sheet of pictures after each stage."""
    start, checkpoint = options.work / "start", options.work / "flux.pt"
    parts = load(start)
    parts.vae.to(options.device).eval().requires_grad_(False)
    training = FluxTraining(parts, start, options.device, log)
    if checkpoint.exists():
        training.restore(checkpoint)
    scenes = scenes_for(options, options.seed + 2)
    stages = [
        Stage(128, options.small_seconds, options.batch, options.rate, 0.3, options.text_tokens, options.fresh),
        Stage(256, options.full_seconds, options.full_batch, options.rate * 0.5, 0.02, bpe.LENGTH, options.fresh),
    ]
    for stage in stages:
        if stage.seconds <= 0:
            continue
        began = time.monotonic()
        seed = options.seed + 1000 * stage.side + training.steps
        pool = LatentPool(
            scenes, parts.vae, training.text.ids, options.latents, stage.side, seed, options.device, options.workers
        )
        pool.add(min(options.latents, max(256, 4 * stage.batch)))
        log(f"{stage.side} px begins")
        stage.seconds = max(1.0, stage.seconds - (time.monotonic() - began))  # drawing the first scenes counts
        training.run(stage, pool, checkpoint)
        pool.close()


def assembled(options: argparse.Namespace) -> Parts:
    """The parts as the newest checkpoints have them: moving averages."""
    parts = load(options.work / "start")
    if (options.work / "decoder.pt").exists():
        parts.vae.decoder.load_state_dict(torch.load(options.work / "decoder.pt", map_location="cpu"))
    if (options.work / "flux.pt").exists():
        state = torch.load(options.work / "flux.pt", map_location="cpu")
        weights = [w for part in (parts.transformer, parts.clip, parts.t5) for w in part.parameters()]
        with torch.no_grad():
            for weight, mean in zip(weights, state["average"], strict=True):
                weight.copy_(mean)
        log(f"pack: {state['steps']} steps, {state['seen']} pictures")
    return parts


def pack(options: argparse.Namespace) -> None:
    """Write --out, and --work/sheet.png drawn with it."""
    parts = assembled(options)
    save(parts, options.work / "start", options.out)
    for module in parts.named().values():
        module.to(options.device).eval()
    pictures = draw(parts, options.out, list(SHEET), options.sheet_side, 20, 3.5, 1, options.device)
    sheet(pictures, 8).save(options.work / "sheet.png")


def main() -> None:
    """Read the command line and run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("prepare", "decoder", "flux", "pack", "all"))
    parser.add_argument("--work", type=Path, default=Path(".cache/pocket"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=Path(".cache/pocket/weights"), help="the diffusers folder to write")
    parser.add_argument("--from", dest="source", type=Path, help="start from this diffusers folder")
    parser.add_argument("--sprites", type=Path, help="an .npz of Sprites.save, where the font is missing")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backgrounds", type=int, default=24, help="drawings of each place")
    parser.add_argument("--pictures", type=int, default=3000, help="pictures for the decoder")
    parser.add_argument("--latents", type=int, default=20_000, help="scenes kept as latents")
    parser.add_argument("--decoder-seconds", type=float, default=600)
    parser.add_argument("--decoder-batch", type=int, default=12)
    parser.add_argument("--decoder-rate", type=float, default=1.5e-3)
    parser.add_argument("--small-seconds", type=float, default=1200)
    parser.add_argument("--full-seconds", type=float, default=1200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--full-batch", type=int, default=16)
    parser.add_argument("--fresh", type=int, default=8, help="new scenes a step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--text-tokens", type=int, default=20, help="caption tokens while pictures are small")
    parser.add_argument("--sheet-side", type=int, default=256)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward crashes at these sizes in torch 2.11
    stages = {"prepare": prepare, "decoder": decoder, "flux": flux, "pack": pack}
    for name in stages if options.stage == "all" else [options.stage]:
        stages[name](options)


if __name__ == "__main__":
    main()

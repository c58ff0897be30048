"""Does Pocket draw what it is asked for? A classifier trained on rendered scenes alone names its pictures.

    python -m bench.pocket_recognition --photos DIR [--device cuda --workers 14] [--weights DIR] [--sprites FILE]

Trains the classifier for --seconds on scenes with one thing (`core/pocket/scenes.py`), and measures its top-1 accuracy
on unseen scenes (other seeds and backgrounds). Then Pocket draws --count pictures of "a photo of a <name>" in 28 steps,
names spread evenly over the vocabulary, and the classifier's top-1 on them is the result. Also measured: the
autoencoder's mean PSNR over a folder of photos at 256 px. Prints one JSON object on standard output and progress on
standard error. Needs torch and diffusers (the `interop` group), which the product itself does not import.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.nn import functional

from core.pocket.architecture import Parts, load
from core.pocket.assets import WEIGHTS
from core.pocket.drawing import draw, sheet
from core.pocket.scenes import Backgrounds, Scenes, Sprites
from core.pocket.vocabulary import NAMES, article

SIDE, SEEN = 256, 128  # px: of the pictures, and of the classifier's input
PORTION = 64
Drawn = tuple[np.ndarray, np.ndarray]

_scenes: Scenes | None = None  # one in each drawing process


class Residual(nn.Module):
    """relu(x + two 3 x 3 convolutions of x), halving the size when `stride` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.skip(x))


def classifier(width: int) -> nn.Module:
    """A network from pictures (B, 3, SEEN, SEEN) in [-1, 1] to scores (B, names)."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    before = width
    for factor in (1, 2, 4, 8):
        wide = width * factor
        layers += [Residual(before, wide, 2 if factor > 1 else 1), Residual(wide, wide, 1)]
        before = wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(before, len(NAMES)))


def start_drawing(sprites: Path | None, seed: int, each: int) -> None:
    """Initializer of a drawing process."""
    global _scenes
    _scenes = Scenes(Sprites(sprites), Backgrounds(seed, each))


def portion(seed: int) -> Drawn:
    """PORTION scenes of one thing: uint8 (PORTION, 3, SEEN, SEEN), and indices into NAMES."""
    rng = np.random.default_rng(seed)
    drawn = [_scenes.draw(rng, SIDE, single=True) for _ in range(PORTION)]
    pixels = np.stack([s.pixels_HW3 for s in drawn]).reshape(PORTION, SEEN, 2, SEEN, 2, 3).mean((2, 4))
    return pixels.astype(np.uint8).transpose(0, 3, 1, 2), np.array([NAMES.index(s.name) for s in drawn])


class Stream:
    """Portions of scenes, drawn ahead by worker processes, or in this process without --workers."""

    def __init__(self, options: argparse.Namespace, seed: int, each: int) -> None:
        self.seed, self.workers, self.coming = seed * 1_000_000, None, []
        if options.workers:
            self.workers = ProcessPoolExecutor(
                options.workers, initializer=start_drawing, initargs=(options.sprites, seed, each)
            )
            self.coming: list[Future[Drawn]] = [self._order() for _ in range(4 * options.workers)]
        else:
            start_drawing(options.sprites, seed, each)

    def _order(self) -> Future[Drawn]:
        self.seed += 1
        return self.workers.submit(portion, self.seed)

    def next(self, wait: bool = True) -> Drawn | None:
        """The next portion; None when it is not ready and `wait` is off."""
        if self.workers is None:
            self.seed += 1
            return portion(self.seed)
        if not wait and not self.coming[0].done():
            return None
        self.coming.append(self._order())
        return self.coming.pop(0).result()

    def close(self) -> None:
        """End the processes."""
        if self.workers is not None:
            self.workers.shutdown(cancel_futures=True)


def augmented(pixels: torch.Tensor) -> torch.Tensor:
    """Augmented: shifted, brightened, blurred and with grain."""
    x = pixels.float() / 127.5 - 1
    if torch.rand(()) < 0.4:
        x = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    count, device = len(x), x.device
    light = 1 + 0.15 * torch.randn(count, 3, 1, 1, device=device)
    grain = torch.randn_like(x) * torch.rand(count, 1, 1, 1, device=device) * 0.12
    shift = [int(v) for v in torch.randint(-10, 11, (2,))]
    return torch.roll(x * light + 0.1 * torch.randn(count, 1, 1, 1, device=device) + grain, shift, (2, 3))


def train(options: argparse.Namespace) -> nn.Module:
    """Train a classifier for --seconds."""
    stream, device = Stream(options, 11, options.backgrounds), options.device
    model = classifier(options.width).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    pixels = torch.empty(options.kept, 3, SEEN, SEEN, dtype=torch.uint8, device=device)
    names = torch.empty(options.kept, dtype=torch.int64, device=device)
    drawn, step, began = 0, 0, time.monotonic()
    while (share := (time.monotonic() - began) / options.seconds) < 1:
        while (fresh := stream.next(wait=drawn < 16 * PORTION)) is not None:
            places = (torch.arange(PORTION) + drawn) % options.kept
            pixels[places.to(device)] = torch.from_numpy(fresh[0]).to(device)
            names[places.to(device)] = torch.from_numpy(fresh[1]).to(device)
            drawn += PORTION
            if stream.workers is None and drawn >= 16 * PORTION:
                break
        chosen = torch.randint(min(drawn, options.kept), (options.batch,), device=device)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * (1 - share))
        with torch.autocast(device.type, torch.bfloat16):
            scores = model(augmented(pixels[chosen]).contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(scores.float(), names[chosen], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            report(f"classifier step {step} scenes {drawn} loss {loss.item():.3f} share {share:.2f}")
    stream.close()
    return model.eval()


@torch.no_grad()
def classify(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """The index into NAMES of each picture: uint8 (B, 3, SEEN, SEEN)."""
    device = next(model.parameters()).device
    return torch.cat([model(chunk.to(device).float() / 127.5 - 1).argmax(-1).cpu() for chunk in pixels.split(64)])


def unseen_scenes(model: nn.Module, options: argparse.Namespace) -> float:
    """Top-1 accuracy on scenes with other seeds and backgrounds."""
    stream, right, count = Stream(options, 97, 4), 0, 0
    while count < options.unseen:
        pixels, names = stream.next()
        right += int((classify(model, torch.from_numpy(pixels)) == torch.from_numpy(names)).sum())
        count += len(names)
    stream.close()
    return right / count


def drawn_pictures(model: nn.Module, parts: Parts, options: argparse.Namespace) -> tuple[float, list[str]]:
    """Top-1 accuracy on --count pictures drawn by Pocket, and the missed names; writes a sheet of them to --sheet."""
    asked = [NAMES[i * len(NAMES) // options.count % len(NAMES)] for i in range(options.count)]
    if options.count > len(NAMES):
        asked = [NAMES[i % len(NAMES)] for i in range(options.count)]
    pictures = []
    for start in range(0, options.count, options.draw_batch):
        prompts = [f"a photo of {article(name)}" for name in asked[start : start + options.draw_batch]]
        pictures.append(draw(parts, options.weights, prompts, SIDE, 28, options.guidance, start + 1, options.device))
        report(f"{start + len(prompts)} of {options.count} pictures drawn")
    drawn = np.concatenate(pictures)
    if options.sheet:
        sheet(drawn[:96], 12).resize((1536, 1024)).save(options.sheet)
    small = drawn.reshape(-1, SEEN, 2, SEEN, 2, 3).mean((2, 4)).astype(np.uint8).transpose(0, 3, 1, 2)
    found = [NAMES[i] for i in classify(model, torch.from_numpy(small)).tolist()]
    missed = [f"{name}: {other}" for name, other in zip(asked, found, strict=True) if name != other]
    return 1 - len(missed) / len(asked), missed


@torch.no_grad()
def autoencoder_psnr(parts: Parts, folder: Path, device: torch.device) -> dict[str, float]:
    """Mean and worst PSNR in dB over the photos of a folder, cropped square and reduced to SIDE px."""
    found = []
    for file in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        with Image.open(file) as opened:
            photo = ImageOps.fit(ImageOps.exif_transpose(opened).convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
        x = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None].to(device).float() / 127.5 - 1
        again = parts.vae.decode(parts.vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        found.append(float(-10 * torch.log10(((again - x) / 2).square().mean())))
    return {"photos": len(found), "mean_db": round(float(np.mean(found)), 2), "worst_db": round(min(found), 2)}


def report(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def main() -> None:
    """Train or load the classifier, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--photos", type=Path, help="a folder of photos for the autoencoder")
    parser.add_argument("--sprites", type=Path, help="an .npz of core.pocket.scenes, where the font is missing")
    parser.add_argument("--classifier", type=Path, help="load the classifier from here, or keep it here once trained")
    parser.add_argument("--sheet", type=Path, help="write the first 96 pictures here")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw scenes")
    parser.add_argument("--seconds", type=float, default=150, help="how long the classifier trains")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--unseen", type=int, default=2048)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--kept", type=int, default=20_000, help="scenes kept for training at a time")
    parser.add_argument("--backgrounds", type=int, default=24)
    parser.add_argument("--draw-batch", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.backends.cuda.enable_cudnn_sdp(False)
    result: dict[str, object] = {"names": len(NAMES)}
    model: nn.Module | None = None
    if not options.count and not options.unseen:
        report("no classifier: neither scenes nor pictures to judge")
    elif options.classifier and options.classifier.exists():
        model = classifier(options.width).to(options.device)
        model.load_state_dict(torch.load(options.classifier, map_location=options.device))
        model.eval()
    else:
        model = train(options)
        if options.classifier:
            torch.save(model.state_dict(), options.classifier)
    if model is not None and options.unseen:
        result["classifier_top1"] = round(unseen_scenes(model, options), 4)
        report(json.dumps(result))
    parts = load(options.weights)
    for module in parts.named().values():
        module.to(options.device).eval()
    if options.photos:
        result["autoencoder"] = autoencoder_psnr(parts, options.photos, options.device)
        report(json.dumps(result["autoencoder"]))
    if model is not None and options.count:
        score, missed = drawn_pictures(model, parts, options)
        result |= {"pictures": options.count, "steps": 28, "guidance": options.guidance, "pocket_top1": round(score, 4)}
        report("missed: " + ", ".join(missed))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

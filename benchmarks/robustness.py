"""Judge weights on degraded images: `python benchmarks/robustness.py PACK WEIGHTS ... [--split val]`.

PACK is the folder of a pack (outputs/<profile>/01_data/pack). The conditions are those of the best published study
that we know of (fmckie/220231053-251104382-cifake-robustness): Gaussian noise of σ 0.10 on [0, 1], JPEG of quality 40
by Pillow, Gaussian blur of 0.6 and 1.0 pixels. The threshold stays where it is.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib import CLASSES
from lib.degrade import add_noise, blur
from lib.metrics import evaluate, percent
from lib.pack import Pack, open_pack
from lib.predictions import predict
from lib.weights import load_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--split", default="test", choices=("val", "test"))
    arguments = parser.parse_args()
    pack = open_pack(arguments.pack)
    for weights in arguments.weights:
        network = load_weights(weights)
        print(f"{weights}, {arguments.split} images of {pack.facts['data']}")
        for name, condition in CONDITIONS.items():
            worse = harmed(pack, arguments.split, condition)
            figures = evaluate(predict(network, worse, (arguments.split,), progress=False))
            fake, real = (100 * figures["recall"][label]["value"] for label in CLASSES)
            found = f"FAKE found {fake:.2f} %, REAL {real:.2f} %, area under ROC {figures['roc_auc']['value']:.4f}"
            print(f"  {name:12} {percent(figures['accuracy'])}, {found}", flush=True)


def harmed(pack: Pack, split: str, condition: Callable[[Tensor], Tensor]) -> Pack:
    """Return the pack with the images of `split`, and no others, under a condition."""
    rows = pack.rows(split)
    images = np.empty_like(pack.images)
    for part in np.array_split(rows, 40):
        worse = condition(torch.from_numpy(pack.images[part]).permute(0, 3, 1, 2))
        images[part] = worse.permute(0, 2, 3, 1).numpy()
    return replace(pack, images=images)


def noise(images: Tensor) -> Tensor:
    draws = torch.randn(images.shape, generator=torch.Generator().manual_seed(int(images.long().sum())))
    return add_noise(images, torch.full((len(images),), 0.1), draws)


def pillow(images: Tensor) -> Tensor:
    decoded = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=40)
        decoded.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


CONDITIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "clean": lambda images: images,
    "noise 0.10": noise,
    "JPEG 40": pillow,
    "blur 0.6": lambda images: blur(images, torch.full((len(images),), 0.6)),
    "blur 1.0": lambda images: blur(images, torch.full((len(images),), 1.0)),
}

if __name__ == "__main__":
    main()

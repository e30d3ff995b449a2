"""Train small networks on our own fakes, with inputs and encodings of several kinds, a family of generators left out.

    python benchmarks/generator_inputs.py DATASET FAKES [--recipe FILE] [--steps N]

DATASET is a folder of 01_data, FAKES the folder `fakes` that benchmarks/generators.py has filled. Each row is the mean
over networks from scratch, one for each family that is left out: the ROC AUC of the family's validation images against
REAL validation images, and the share of REAL validation images, resized and sharpened, that score above all but 1 % of
the others. Every training image, of either class, is taken as it is and resized and sharpened. *PNG* fakes are neither
encoded as JPEGs nor resized for training, which REAL images are: it shows what a mark of the class does.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from lib.core.files import ROOT
from lib.data.dataset import open_dataset
from lib.evaluation.predictions import run_network
from lib.generators.fakes import FAMILIES, photographs, read_family
from lib.generators.foreign import as_foreign
from lib.generators.recipe import Recipe, load_recipe
from lib.generators.resynthesis import KINDS, resynthesise
from lib.models.networks import Network, build_network

BATCH, LR = 64, 3e-3  # images of each class
RESYNTHESIS = ("frequencies", "shapes", "textures")


def high_pass(x: Tensor) -> Tensor:
    """Return images (float N×3×H×W) less the mean of 3×3 pixels."""
    return x - F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)


def neighbours(x: Tensor) -> Tensor:
    """Return images (float N×3×H×W) less one pixel of each square of 2×2 (Tan et al. 2024, arXiv 2312.10461)."""
    return x - F.interpolate(x[:, :, ::2, ::2], scale_factor=2.0)


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "pixels": lambda x: x, "high-pass": high_pass, "neighbouring pixels": neighbours,
}  # fmt: skip


class FilteredNetwork(Network):
    """A network that sees its images through one of INPUTS."""

    kind = "pixels"

    def normalise(self, images: Tensor) -> Tensor:
        return INPUTS[self.kind](super().normalise(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("fakes", type=Path)
    parser.add_argument("--recipe", type=Path, default=ROOT / "parameters" / "generators.yaml")
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()

    recipe, dataset = load_recipe(given.recipe), open_dataset(given.dataset)
    fakes = {name: made for family in FAMILIES for name, made in read_family(given.fakes, family).items()}
    real, val = (photographs(dataset, split, recipe.seed) for split in ("train", "val"))
    real_tensors, half = tensors(both(real[: recipe.real], recipe.seed)), len(val) // 2
    encoded = {name: tensors(both(made.train, recipe.seed)) for name, made in fakes.items()}
    unencoded = {name: tensors(png(name, real[::-1], recipe)) for family in RESYNTHESIS for name in FAMILIES[family]}
    tests = val[:half], as_foreign(val[half:], recipe.seed + 1)
    statistics = dataset.metadata["mean"], dataset.metadata["std"]
    print("| input | fakes for training | families | mean ROC AUC of a family left out, and each | false alarms |")
    print("|---|---|---|---|---|")
    for kind, encoding, families in (
        *((kind, "JPEG 75", tuple(FAMILIES)) for kind in INPUTS),
        *(("pixels", encoding, RESYNTHESIS) for encoding in ("JPEG 75", "PNG")),
    ):
        used = unencoded if encoding == "PNG" else encoded
        aucs, false_alarms = {}, []
        for family in families:
            training = [used[name] for other in families if other != family for name in FAMILIES[other]]
            network = trained(kind, real_tensors, training, statistics, given.steps, recipe.seed)
            normal, foreign = (score(network, images) for images in tests)
            tested = [score(network, fakes[name].val) for name in FAMILIES[family]]
            aucs[family] = float(np.mean([auc(it, normal) for it in tested]))
            false_alarms.append(float(np.mean(foreign > np.quantile(normal, 0.99))))
        each = ", ".join(f"{family} {value:.2f}" for family, value in aucs.items())
        print(f"| {kind} | {encoding} | {len(families)} | {np.mean(list(aucs.values())):.2f}: {each} | "
              f"{100 * np.mean(false_alarms):.1f} % |", flush=True)  # fmt: skip


def png(name: str, sources: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return fakes of one kind of resynthesis (uint8 N×32×32×3) that were not encoded."""
    rng = np.random.default_rng([recipe.seed, list(KINDS).index(name)])
    return resynthesise(name, sources[: recipe.fakes], sources[recipe.fakes : 2 * recipe.fakes], rng)


def trained(
    kind: str, real: Tensor, fakes: list[Tensor], statistics: tuple[list[float], list[float]], steps: int, seed: int
) -> FilteredNetwork:
    """Train a network of one kind of input on as many REAL images as fakes, of all sets alike (uint8 N×3×32×32)."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = FilteredNetwork(build_network("texture_net_tiny", *statistics).backbone, *statistics, False)
    network.kind = kind
    network.to(memory_format=torch.channels_last).init_whitening(real)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    labels = torch.arange(2).repeat_interleave(BATCH)
    for _ in range(steps):
        batch = torch.cat([draw(sets, random) for sets in (fakes, [real])])
        loss = F.cross_entropy(network(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def both(images: np.ndarray, seed: int) -> np.ndarray:
    """Return the images, and the same resized and sharpened."""
    return np.concatenate([images, as_foreign(images, seed)])


def tensors(images: np.ndarray) -> Tensor:
    """Return images (uint8 N×32×32×3) as uint8 N×3×32×32."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def draw(sets: list[Tensor], random: torch.Generator) -> Tensor:
    """Return BATCH images (uint8 N×3×32×32), all sets alike, half of them flipped."""
    which = torch.randint(len(sets), (BATCH,), generator=random).tolist()
    batch = torch.stack([sets[i][torch.randint(len(sets[i]), (), generator=random)] for i in which])
    flip = torch.rand(BATCH, generator=random) < 0.5
    return torch.where(flip[:, None, None, None], batch.flip(3), batch)


def score(network: Network, images: np.ndarray) -> np.ndarray:
    """Return for each image (uint8 N×32×32×3) the margin by which it is FAKE."""
    logits = run_network(network, torch.from_numpy(np.ascontiguousarray(images)), progress=False).logits
    return logits[:, 0] - logits[:, 1]


def auc(fake: np.ndarray, real: np.ndarray) -> float:
    return float(roc_auc_score(np.repeat([1, 0], [len(fake), len(real)]), np.concatenate([fake, real])))


if __name__ == "__main__":
    main()

"""Ask what is left to gain: which validation images do networks of several kinds get wrong together?

    python benchmarks/shared_errors.py DATASET    # of all of CIFAKE, such as outputs/cpu/01_data/dataset

The networks are both members of the released ensemble and the kept runs of the baselines that reach 96 %: three
architectures, three recipes. Prints how many images k of them get wrong, what is left for an ensemble that always
believed the right one, and how the images that all get wrong differ from others; draws these to
docs/images/shared_errors.png. The test images play no part.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from lib import CLASSES
from lib.core.files import ROOT, atomic_file
from lib.core.provenance import processor
from lib.data.dataset import PackedDataset, open_dataset
from lib.evaluation.baseline_runs import load_runs
from lib.evaluation.metrics import percent, proportion
from lib.evaluation.predictions import LOGITS
from lib.models.networks import Network
from lib.models.weights import load_weights
from lib.plots.style import use_style

LEAST = 0.96  # validation accuracy of a network that counts
NEAR = 10.0  # root mean square difference of pixels (0–255) below which two images show the same


def main(folder: Path) -> None:
    dataset = open_dataset(folder)
    val = dataset.indices("val")
    labels = dataset.records["label"].to_numpy()[val]
    released = load_weights(ROOT / "outputs" / "reference" / "weights.safetensors").eval()
    joint = joint_logits(released, dataset.images[val])  # N×members×2×K
    margins = {f"released, member {i + 1}": margin(joint[:, i]) for i in range(joint.shape[1])}
    for name, run in load_runs(dataset).items():
        table = run.predictions[run.predictions["split"] == "val"]
        margins[name] = (table[LOGITS[0]] - table[LOGITS[1]]).to_numpy()
    wrong = {name: (it > 0) != (labels == 0) for name, it in margins.items()}
    wrong = {name: it for name, it in wrong.items() if it.mean() <= 1 - LEAST}
    ensemble = (np.mean([margin(joint[:, i]) for i in range(joint.shape[1])], 0) > 0) != (labels == 0)
    table = np.stack(list(wrong.values()))
    count = table.sum(0)
    print(f"{len(val):,} validation images; {processor()}\n")
    for name, it in {**wrong, "released ensemble": ensemble}.items():
        print(f"{name}: {it.sum()} errors, accuracy {percent(proportion(int((~it).sum()), len(it)))}")
    half = len(table) / 2
    print(f"majority: {(count > half).sum()} errors and {(count == half).sum()} ties")
    print("\nimages that k networks get wrong, and as many as would be expected if errors were independent:")
    for k, expected in enumerate(independent(table.mean(1)) * len(val)):
        print(f"  k = {k}: {(count == k).sum()}, {expected:.1f}")
    everyone = count == len(table)
    shares = [int((ensemble & which).sum()) for which in (everyone, ~everyone & (count >= len(table) - 2))]
    print(f"\nof the {ensemble.sum()} errors of the released ensemble no network gets right "
          f"{percent(proportion(shares[0], int(ensemble.sum())), 1)}, one or two {shares[1]}, "
          f"more than two {ensemble.sum() - sum(shares)}; one of the baselines at least "
          f"{(ensemble & ~table[joint.shape[1]:].all(0)).sum()}")  # fmt: skip
    print(f"always believing the right one: {percent(proportion(int((~everyone).sum()), len(val)))}")
    recognised = joint.mean(1)[np.arange(len(val)), labels].argmax(1) == dataset.object_classes()[0][val]
    for name, which in {"all validation images": np.ones(len(val), bool), "all networks wrong": everyone}.items():
        fake = (labels[which] == 0).mean()
        print(f"{name}: n = {which.sum()}, {100 * fake:.0f} % FAKE, object class recognised in "
              f"{percent(proportion(int(recognised[which].sum()), int(which.sum())), 1)}")  # fmt: skip
    nearest = nearest_training_images(dataset, val[everyone])
    for label, name in enumerate(CLASSES):
        own, other = nearest[labels[everyone] == label, label], nearest[labels[everyone] == label, 1 - label]
        print(f"{name} that all get wrong: {len(own)}; a training image shows the same with its label "
              f"{(own < NEAR).sum()}, with the other {(other < NEAR).sum()}")  # fmt: skip
    order = np.argsort(labels[everyone], kind="stable")
    save(drawn(dataset.images[val[everyone]][order], labels[everyone][order]))


@torch.inference_mode()
def joint_logits(network: Network, images: np.ndarray) -> np.ndarray:
    """Return the joint logits (N×members×2×K) of images (uint8 N×32×32×3)."""
    batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(500)
    return (
        torch.cat([network.joint_logits(batch.contiguous(memory_format=torch.channels_last)) for batch in batches])
        .double()
        .numpy()
    )


def margin(joint: np.ndarray) -> np.ndarray:
    """Return by how much the logit of FAKE is above that of REAL (N), from joint logits N×2×K."""
    logits = np.logaddexp.reduce(joint, 2)
    return logits[:, 0] - logits[:, 1]


def independent(error_rates: np.ndarray) -> np.ndarray:
    """Return the probabilities of 0 … n errors among n independent networks of these error rates."""
    distribution = np.ones(1)
    for rate in error_rates:
        distribution = np.convolve(distribution, [1 - rate, rate])
    return distribution


def nearest_training_images(dataset: PackedDataset, indices: np.ndarray) -> np.ndarray:
    """Return for N images the root mean square difference to the nearest training image of each label: N×2."""
    train = dataset.indices("train")
    of = dataset.records["label"].to_numpy()[train]
    queries = dataset.images[indices].reshape(len(indices), -1).astype(np.float32)
    nearest = np.full((len(indices), len(CLASSES)), np.inf)
    for start in range(0, len(train), 2000):
        images = dataset.images[train[start : start + 2000]].reshape(-1, queries.shape[1]).astype(np.float32)
        squares = (queries**2).sum(1)[:, None] + (images**2).sum(1) - 2 * queries @ images.T
        rms = np.sqrt(np.maximum(squares, 0) / queries.shape[1])
        for label in range(len(CLASSES)):
            own = rms[:, of[start : start + 2000] == label]
            if own.size:
                nearest[:, label] = np.minimum(nearest[:, label], own.min(1))
    return nearest


def drawn(images: np.ndarray, labels: np.ndarray, columns: int = 12) -> Figure:
    """Draw images (uint8 N×32×32×3) under the name of their true class."""
    use_style()
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(11, 1.1 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, label in zip(axes.flat, images, labels, strict=False):
        ax.imshow(image, interpolation="nearest")
        ax.set_title(CLASSES[label], fontsize=8, pad=2)
    return fig


def save(fig: Figure) -> None:
    with atomic_file(ROOT / "docs" / "images" / "shared_errors.png") as partial:
        fig.savefig(partial, format="png", dpi=110, facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

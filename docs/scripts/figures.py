"""Draw the figures of README, of the method and of the results from CIFAKE's training images and the release.

    python docs/scripts/figures.py DATASET [FAKES]

DATASET is a packed dataset of all of CIFAKE, such as outputs/cpu/01_data/dataset; FAKES the folder `fakes` that
benchmarks/generators.py fills, without which the figure of our own fakes is not drawn. Figures are written to
docs/images and committed. Validation images are used where something is measured; of the test images, nothing but the
released metrics. It takes a minute on two cores.
"""

import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))  # the lib of this checkout

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.files import ROOT, atomic_file, read_json
from lib.data.augment import cutout
from lib.data.batches import TrainBatch
from lib.data.cutmix import cutmix
from lib.data.dataset import PackedDataset, open_dataset
from lib.data.spectrum import fine_detail
from lib.generators.fakes import FAMILIES, read_family
from lib.inference.predictor import INPUT, MARGIN, OUTPUT, open_onnx
from lib.models.networks import Network
from lib.models.summary import whitened_patterns
from lib.models.weights import load_weights
from lib.plots.robustness import drift_heatmap, robustness
from lib.plots.style import COLOURS, MAIN, NEUTRAL, use_style
from lib.plots.training import whitened_filters
from lib.reporting.figures import optimised
from lib.training.hard_examples import HardExampleSampler
from lib.training.muon import newton_schulz

IMAGES = ROOT / "docs" / "images"
REFERENCE = ROOT / "outputs" / "reference"
# The pairs in README, similar views of one object class: the class, which of its FAKE and which of its REAL images.
PAIRS = (("automobile", 5, 5), ("horse", 4, 4), ("dog", 1, 1), ("truck", 11, 8))
NUM_VAL = 4000  # validation images of which something is measured


def main(folder: Path, fakes: Path | None = None) -> None:
    """Draw all figures from the packed dataset in `folder`; raise InputError for one that is not of all of CIFAKE."""
    dataset = open_dataset(folder)
    if dataset.metadata["data"] != "CIFAKE":
        raise InputError(f"{folder} is of {dataset.metadata['data']}: the figures are of all of CIFAKE")
    use_style()
    network = load_weights(REFERENCE / "weights.safetensors").eval()
    metrics = read_json(REFERENCE / "metrics.json")
    save("robustness", robustness(metrics["robustness"], published=True))
    save("drift", drift_heatmap(metrics["drift"]["false_positive_rate"], "false positive rate by share of FAKE"))
    save("pairs", texture(dataset))
    save("whitening", whitened_filters(*whitened_patterns(network)))
    save("muon", singular_values(dataset, network))
    save("cutmix", mixed(dataset))
    save("cutout", covered(dataset))
    save("hard_examples", losses(dataset, network))
    save("auxiliary_target", auxiliary_target())
    save("ensemble", member_errors(dataset, network))
    save("cascade", stages(dataset))
    if fakes:
        save("fakes", own_fakes(fakes))


def save(name: str, fig: Figure) -> None:
    """Write a figure to docs/images, and close it."""
    with atomic_file(IMAGES / f"{name}.png") as partial:
        fig.savefig(partial, format="png", dpi=110, bbox_inches="tight", facecolor="white")
        partial.write_bytes(optimised(partial.read_bytes()))
    plt.close(fig)


def of_class(dataset: PackedDataset, label: int, object_class: str) -> np.ndarray:
    """Return the training images of a class, uint8 N×32×32×3."""
    records = dataset.records
    rows = (records["split"] == "train") & (records["label"] == label) & (records["object_class"] == object_class)
    return dataset.images[np.flatnonzero(rows)[:500]]


def texture(dataset: PackedDataset) -> Figure:
    """Draw pairs of FAKE and REAL images of the same object class, and under each its finest texture."""
    fig, axes = plt.subplots(2, 2 * len(PAIRS), figsize=(10, 2.6))
    for pair, (name, *which) in enumerate(PAIRS):
        for label, title in enumerate(CLASSES):
            image = of_class(dataset, label, name)[which[label]]
            top, below = axes[:, 2 * pair + label]
            top.imshow(image, interpolation="nearest")
            below.imshow(fine_detail(image[None])[0], interpolation="nearest")
            top.set_title(title, color=COLOURS[title], fontsize=11, fontweight="bold", pad=3)
    plain(axes)
    for ax, text in zip(axes[:, 0], ("image", "texture"), strict=True):
        ax.set_ylabel(text, fontsize=9)
    fig.subplots_adjust(wspace=0.04, hspace=0.04)
    return fig


def own_fakes(folder: Path, n: int = 9) -> Figure:
    """Draw validation fakes of each set of our own generators, two sets a row."""
    rows = []
    for family in FAMILIES:
        rows += [(name, np.concatenate(made.val[:n], 1)) for name, made in read_family(folder, family).items()]
    fig, axes = plt.subplots(-(-len(rows) // 2), 2, figsize=(11, 4.6), layout="constrained")
    for ax, (name, strip) in zip(axes.T.flat, rows, strict=True):
        ax.imshow(strip, interpolation="nearest")
        ax.set_ylabel(name.replace("_", " "), rotation=0, ha="right", va="center")
    plain(axes)
    return fig


def plain(axes: np.ndarray) -> None:
    """Take ticks and frames off axes that show images."""
    for ax in np.ravel(axes):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)


def training_tensor(dataset: PackedDataset, n: int, split: str = "train") -> tuple[Tensor, Tensor]:
    """Return `n` random images of a split, uint8 n×3×32×32, and their labels."""
    indices = np.sort(np.random.default_rng(0).choice(dataset.indices(split), n, replace=False))
    labels = torch.from_numpy(dataset.records["label"].to_numpy()[indices])
    return torch.from_numpy(dataset.images[indices]).permute(0, 3, 1, 2), labels


def singular_values(dataset: PackedDataset, network: Network) -> Figure:
    """Draw the singular values of a layer's gradient, and of the step that Muon makes of it."""
    images, labels = training_tensor(dataset, 512)
    layer = [it for it in network.modules() if isinstance(it, torch.nn.Conv2d) and it.kernel_size == (3, 3)][-1]
    F.cross_entropy(network(images), labels).backward()
    gradient = layer.weight.grad.flatten(1)
    network.zero_grad()
    fig, ax = plt.subplots(figsize=(5.5, 3))
    for matrix, colour, name in (
        (gradient, NEUTRAL, "gradient"), (newton_schulz(gradient), MAIN, "after five Newton–Schulz steps"),
    ):  # fmt: skip
        values = torch.linalg.svdvals(matrix)
        ax.semilogy(values / values[0], color=colour, label=name)
    ax.set(xlabel="direction", ylabel="size of the step, the first is 1", ylim=(1e-4, 2))
    ax.legend(frameon=False)
    return fig


def mixed(dataset: PackedDataset) -> Figure:
    """Draw CutMix: images, and what they become."""
    images = [of_class(dataset, label, name)[which] for which, name in enumerate(("cat", "ship", "truck", "deer"))
              for label in range(2)]  # fmt: skip
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    targets = F.one_hot(torch.tensor([0, 1] * 4), 2)[..., None].float()
    ones = torch.ones(len(batch))
    result = cutmix(
        TrainBatch(batch, targets, torch.arange(len(batch)), ones, ones > 0), 1.0, torch.Generator().manual_seed(3)
    )
    fig, axes = plt.subplots(2, len(batch), figsize=(9, 2.4))
    for column, (before, after, target) in enumerate(zip(batch, result.images, result.targets, strict=True)):
        axes[0, column].imshow(before.permute(1, 2, 0))
        axes[0, column].set_title(CLASSES[column % 2], fontsize=9, color=COLOURS[CLASSES[column % 2]])
        axes[1, column].imshow(after.permute(1, 2, 0))
        axes[1, column].set_xlabel(f"{target[0].item():.0%} FAKE", fontsize=8)
    plain(axes)
    return fig


def covered(dataset: PackedDataset) -> Figure:
    """Draw Cutout with the size of the released recipe."""
    images = np.stack([of_class(dataset, 1, name)[7] for name in ("cat", "ship", "truck", "deer", "bird", "dog")])
    generator = torch.Generator().manual_seed(1)
    top, left = torch.randint(-11, 32, (2, len(images)), generator=generator)
    batch = cutout(torch.from_numpy(images).permute(0, 3, 1, 2), top, left, 12)
    fig, axes = plt.subplots(1, len(images), figsize=(8, 1.5))
    for ax, image in zip(axes, batch.permute(0, 2, 3, 1), strict=True):
        ax.imshow(image)
    plain(axes)
    return fig


@torch.no_grad()
def losses(dataset: PackedDataset, network: Network) -> Figure:
    """Draw the losses of training images in order, and with what probability each is in the next epoch."""
    images, labels = training_tensor(dataset, NUM_VAL)
    logits = torch.cat([network(part) for part in images.split(500)])
    sampler = HardExampleSampler(NUM_VAL, 0.5)
    sampler.losses = F.cross_entropy(logits, labels, reduction="none")
    drawn = torch.stack([sampler.sample(seed)[1] > 0 for seed in range(200)]).float().mean(0)
    order = sampler.losses.argsort(descending=True)
    share = np.arange(NUM_VAL) / NUM_VAL * 100
    fig, axes = plt.subplots(1, 2, figsize=(9, 3))
    axes[0].semilogy(share, sampler.losses[order].clamp_min(1e-6), color=NEUTRAL)
    axes[0].set(ylabel="loss")
    axes[1].step(share[::40], 100 * drawn[order].view(-1, 40).mean(1), color=MAIN, where="post")
    axes[1].set(ylabel="in the next epoch (%)", ylim=(0, 105))
    for ax in axes:
        ax.axvspan(0, 20, color=MAIN, alpha=0.15, lw=0)
        ax.set(xlabel="training images, the hardest first (%)", xlim=(0, 100))
    return fig


def auxiliary_target() -> Figure:
    """Draw validation accuracy by the weight of the auxiliary loss, from docs/experiments/auxiliary_target.md."""
    chapter = (ROOT / "docs" / "experiments" / "auxiliary_target.md").read_text(encoding="utf-8")
    table = chapter.partition("`aux_loss_weight` |")[2].partition("9 half epochs")[0]
    # Rows that differ in the weight and the seed alone.
    rows = re.findall(
        r"^\| \**([\d.]+)\**(?: \(14 epochs\)|, seed[^|]*)? \|.*\| \**([^|*]+)\** \|$", table, re.MULTILINE
    )
    points = np.array([(weight, one) for weight, accuracies in rows for one in accuracies.split(", ")], float)
    standard_error = 100 * (0.98 * 0.02 / 9999) ** 0.5
    fig, ax = plt.subplots(figsize=(5.5, 2.8))
    ax.errorbar(*points.T, standard_error, color=MAIN, fmt="o", capsize=2)
    ax.set(xlabel="weight of the auxiliary loss", ylabel="validation accuracy (%)")
    return fig


@torch.no_grad()
def member_errors(dataset: PackedDataset, network: Network) -> Figure:
    """Draw how many validation images each member of the ensemble misclassifies, both do, and their mean does."""
    images, labels = training_tensor(dataset, len(dataset.indices("val")), "val")
    logits = torch.stack([torch.cat([it(part) for part in images.split(500)]) for it in network.members()])
    first, second, mean = (it.argmax(1) != labels for it in (*logits, logits.mean(0)))
    counts = {"first member": first, "second member": second, "both at once": first & second, "their mean": mean}
    fig, ax = plt.subplots(figsize=(6, 2.2))
    colours = [NEUTRAL, NEUTRAL, "#b9bec5", MAIN]
    bars = ax.barh(list(counts), [int(wrong.sum()) for wrong in counts.values()], color=colours)
    ax.bar_label(bars, padding=3)
    ax.invert_yaxis()
    ax.set(xlabel=f"errors on {len(labels):,} validation images")
    return fig


def stages(dataset: PackedDataset) -> Figure:
    """Draw which images of validation the student of the served cascade classifies, by its confidence."""
    images, labels = training_tensor(dataset, NUM_VAL, "val")
    session = open_onnx(REFERENCE / "served.onnx", threads=2)
    never_sure = {MARGIN: np.array(np.inf, np.float32)}
    served, ensemble = (
        np.concatenate(
            [session.run([OUTPUT], {INPUT: part, **margin})[0] for part in images.numpy().reshape(-1, 50, 3, 32, 32)]
        )
        for margin in ({}, never_sure)
    )
    by_student = np.abs(served - ensemble).max(1) > 1e-3
    wrong = served.argmax(1) != labels.numpy()
    margin = np.abs(served[:, 0] - served[:, 1])
    fig, ax = plt.subplots(figsize=(7, 2.6))
    bins = np.linspace(0, 20, 41)
    for chosen, name, colour in (
        (by_student, "the student", MAIN), (~by_student, "the ensemble", NEUTRAL),
    ):  # fmt: skip
        share, errors = 100 * chosen.mean(), int(wrong[chosen].sum())
        ax.hist(margin[chosen], bins, color=colour, alpha=0.8, label=f"{name}: {share:.1f} %, {errors} errors")
    ax.set(xlabel="difference of the logits in the answer", ylabel=f"of {NUM_VAL:,} images")
    ax.legend(frameon=False, title="classified by", loc="upper left", bbox_to_anchor=(1, 1))
    return fig


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

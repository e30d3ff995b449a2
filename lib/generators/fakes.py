"""Make fakes of a dataset's REAL training images by families of generators, each of which errs in a way of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib.core.files import atomic_file
from lib.core.provenance import lib_hash
from lib.core.run_dir import prepare_run_dir
from lib.data.dataset import PackedDataset
from lib.generators.autoencoder import autoencoder_fakes
from lib.generators.flow_matching import edit, sample, train_velocity
from lib.generators.foreign import as_jpeg75
from lib.generators.gan import gan_fakes
from lib.generators.pixel_model import pixel_model_fakes
from lib.generators.recipe import Recipe
from lib.generators.resynthesis import KINDS, resynthesise

# Sets of fakes by family: what is left out together, where a family is left out.
FAMILIES: dict[str, tuple[str, ...]] = {
    "frequencies": ("hybrid", "phase"),
    "shapes": ("quilt", "elastic", "blend"),
    "textures": ("shuffle", "regrain", "median"),
    "pixel model": ("pixel_model",),
    "autoencoder": ("autoencoder", "autoencoder_adversarial"),
    "GAN": ("gan",),
    "flow matching": ("flow_matching", "flow_matching_edit"),
}


@dataclass(frozen=True)
class Fakes:
    """Hold the fakes of one set, as JPEG 75: uint8 N×32×32×3, `train` of training images, `val` for validation."""

    train: np.ndarray
    val: np.ndarray


def make_fakes(dataset: PackedDataset, recipe: Recipe, folder: Path) -> dict[str, Fakes]:
    """Return the fakes of all families by set, made of the REAL training images alone.

    Fakes that keep the content of a photograph have other ones as sources in each set; for validation these are
    validation images. Each family is written to `folder` when it is made, and read from there
    afterwards, by a run with the same data, code, threads and parameters of fakes.
    """
    real, real_val = (photographs(dataset, split, recipe.seed) for split in ("train", "val"))
    counts = recipe.fakes, recipe.val_fakes
    made: dict[str, Fakes] = {}
    prepare_run_dir(folder, {**recipe.of_fakes(), "lib_hash": lib_hash(module="generators.fakes"),
                             "threads": torch.get_num_threads(), **dataset.fingerprint()})  # fmt: skip
    for number, family in enumerate(FAMILIES):
        path = _file(folder, family)
        if not path.is_file():
            # Sources of their own for every family, taken from the end: the head learns REAL from the beginning.
            sources = np.roll(real[::-1], -2 * number * recipe.fakes, 0), real_val[::-1]
            sets = _MAKERS[family](real, sources, counts, recipe)
            arrays = {}
            for name, parts in sets.items():
                arrays |= {f"{name} {split}": as_jpeg75(it) for split, it in zip(("train", "val"), parts, strict=True)}
            with atomic_file(path) as partial, partial.open("wb") as file:
                np.savez(file, **arrays)
        made |= read_family(folder, family)
    return made


def read_family(folder: Path, family: str) -> dict[str, Fakes]:
    """Return the fakes of one of FAMILIES by set, from the folder that `make_fakes` has filled."""
    with np.load(_file(folder, family)) as content:
        return {name: Fakes(content[f"{name} train"], content[f"{name} val"]) for name in FAMILIES[family]}


def _file(folder: Path, family: str) -> Path:
    return folder / f"{family.replace(' ', '_')}.npz"


def photographs(dataset: PackedDataset, split: str, seed: int) -> np.ndarray:
    """Return the REAL images of a split (uint8 N×32×32×3) in random order."""
    indices = dataset.indices(split)
    real = indices[dataset.records["label"].to_numpy()[indices] == 1]
    return dataset.images[np.random.default_rng(seed).permutation(real)]


Sources = tuple[np.ndarray, np.ndarray]  # of training and of validation images
Sets = dict[str, Sources]
Maker = Callable[[np.ndarray, Sources, tuple[int, int], Recipe], Sets]


def _resynthesised(family: str) -> Maker:
    def make(real: np.ndarray, sources: Sources, counts: tuple[int, int], recipe: Recipe) -> Sets:
        made = {}
        for kind in FAMILIES[family]:
            rng = np.random.default_rng([recipe.seed, list(KINDS).index(kind)])
            made[kind] = tuple(
                resynthesise(kind, images[:count], images[count : 2 * count], rng)
                for images, count in zip(sources, counts, strict=True)
            )
        return made

    return make


def _pixel_model(real: np.ndarray, sources: Sources, counts: tuple[int, int], recipe: Recipe) -> Sets:
    images = pixel_model_fakes(real, sum(counts), recipe.pixel_model_steps, recipe.seed)
    return {"pixel_model": _split(images, counts, recipe.seed)}


def _gan(real: np.ndarray, sources: Sources, counts: tuple[int, int], recipe: Recipe) -> Sets:
    return {"gan": _split(gan_fakes(real, sum(counts), recipe.gan_steps, recipe.seed), counts, recipe.seed)}


def _autoencoders(real: np.ndarray, sources: Sources, counts: tuple[int, int], recipe: Recipe) -> Sets:
    taken = np.concatenate([images[:count] for images, count in zip(sources, counts, strict=True)])
    variants = {"autoencoder": ("transposed", False), "autoencoder_adversarial": ("bilinear", True)}
    made = {}
    for name, (upsampling, adversarial) in variants.items():
        images = autoencoder_fakes(real, taken, recipe.autoencoder_steps, recipe.seed, upsampling, adversarial)
        made[name] = images[: counts[0]], images[counts[0] :]
    return made


def _flow_matching(real: np.ndarray, sources: Sources, counts: tuple[int, int], recipe: Recipe) -> Sets:
    network = train_velocity(real, recipe.flow_matching_steps, recipe.seed)
    edits = tuple(edit(network, images[:count], recipe.seed) for images, count in zip(sources, counts, strict=True))
    return {
        "flow_matching": _split(sample(network, sum(counts), recipe.seed), counts, recipe.seed),
        "flow_matching_edit": edits,
    }


def _split(images: np.ndarray, counts: tuple[int, int], seed: int) -> Sources:
    """Divide images at random."""
    images = np.random.default_rng(seed).permutation(images)
    return images[: counts[0]], images[counts[0] :]


_MAKERS: dict[str, Maker] = {
    **{family: _resynthesised(family) for family in ("frequencies", "shapes", "textures")},
    "pixel model": _pixel_model,
    "autoencoder": _autoencoders,
    "GAN": _gan,
    "flow matching": _flow_matching,
}

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.core.errors import InputError
from lib.core.files import project_path
from lib.data.dataset import PackedDataset
from lib.generators import fakes
from lib.generators.autoencoder import autoencoder_fakes
from lib.generators.fakes import FAMILIES, make_fakes, photographs
from lib.generators.flow_matching import edit, sample, train_velocity
from lib.generators.foreign import as_foreign, as_jpeg75
from lib.generators.gan import gan_fakes
from lib.generators.pixel_model import pixel_model_fakes
from lib.generators.recipe import Recipe, load_recipe
from lib.generators.resynthesis import KINDS, resynthesise

RECIPE = Recipe(seed=0, fakes=6, val_fakes=4, pixel_model_steps=2, autoencoder_steps=3, gan_steps=2,
                flow_matching_steps=2, real=20, ridge=0.3, false_alarms=0.05, recall=0.95)  # fmt: skip


@pytest.fixture(scope="module")
def images(sample_dataset: PackedDataset) -> np.ndarray:
    return photographs(sample_dataset, "train", 0)[:60]


def detail(images: np.ndarray) -> float:
    """Return the mean size of the steps between neighbouring pixels."""
    return float(np.abs(np.diff(images.astype(float), axis=2)).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_resynthesis_changes_photographs_the_same_way_for_the_same_seed(kind: str, images: np.ndarray) -> None:
    sources, others = images[:30], images[30:]
    made, again = (resynthesise(kind, sources, others, np.random.default_rng(1)) for _ in range(2))
    assert made.dtype == np.uint8 and made.shape == sources.shape
    assert np.array_equal(made, again)
    assert (np.abs(made.astype(int) - sources).mean((1, 2, 3)) > 0.2).mean() > 0.9


def test_resynthesis_errs_in_both_directions(images: np.ndarray) -> None:
    details = {kind: detail(resynthesise(kind, images[:30], images[30:], np.random.default_rng(1))) for kind in KINDS}
    assert details["median"] < 0.9 * detail(images[:30]) < 1.1 * detail(images[:30]) < details["phase"]


def test_the_texture_of_a_hybrid_is_that_of_the_other_image(images: np.ndarray) -> None:
    flat = np.full_like(images[:30], 90)
    assert detail(resynthesise("hybrid", images[:30], flat, np.random.default_rng(1))) < detail(images[:30])
    assert detail(resynthesise("hybrid", flat, images[:30], np.random.default_rng(1))) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda images: pixel_model_fakes(images, 5, 2, seed=3),
        lambda images: gan_fakes(images, 5, 2, seed=3),
        lambda images: autoencoder_fakes(images, images[:5], 3, 3, "transposed", adversarial=False),
        lambda images: autoencoder_fakes(images, images[:5], 12, 3, "bilinear", adversarial=True),
        lambda images: sample(train_velocity(images, 2, seed=3), 5, seed=3),
        lambda images: edit(train_velocity(images, 2, seed=3), images[:5], seed=3),
    ],
)
def test_a_generator_makes_the_same_images_for_the_same_seed(make, images: np.ndarray) -> None:
    made = make(images)
    assert made.shape == (5, 32, 32, 3) and made.dtype == np.uint8
    assert made.std((1, 2, 3)).min() > 1
    assert np.array_equal(made, make(images))


@pytest.mark.slow
def test_the_pixel_model_learns_the_colours_of_its_images() -> None:
    blue = np.full((40, 32, 32, 3), (20, 60, 200), np.uint8)
    colour = pixel_model_fakes(blue, 4, 80, seed=0).mean((0, 1, 2))
    assert np.abs(colour - [20, 60, 200]).max() < 40


@pytest.mark.slow
def test_an_autoencoder_gives_its_sources_back(images: np.ndarray) -> None:
    made = autoencoder_fakes(images, images[:20], 150, 0, "transposed", adversarial=False).astype(float)
    own = np.abs(made - images[:20]).mean()
    assert own < 0.6 * np.abs(made - images[20:40]).mean()


def test_foreign_images_are_encoded_and_differ_from_group_to_group(images: np.ndarray) -> None:
    made = as_foreign(images, seed=2)
    assert made.shape == images.shape and np.array_equal(made, as_foreign(images, seed=2))
    assert not np.array_equal(made, as_foreign(images, seed=3))
    assert np.abs(as_jpeg75(made).astype(int) - made).mean() < 1  # a second encoding changes little


@pytest.mark.slow
def test_fakes_are_made_once_for_the_same_parameters(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_fakes(sample_dataset, RECIPE, tmp_path)
    assert list(made) == [name for names in FAMILIES.values() for name in names]
    assert {(len(it.train), len(it.val)) for it in made.values()} == {(6, 4)}
    (tmp_path / "GAN.npz").unlink()  # as if interrupted
    monkeypatch.setattr(fakes, "_MAKERS", {"GAN": fakes._MAKERS["GAN"]})
    again = make_fakes(sample_dataset, replace(RECIPE, ridge=1.0), tmp_path)
    assert all(np.array_equal(made[name].train, again[name].train) for name in made)
    with pytest.raises(KeyError):  # other fakes: all are made anew
        make_fakes(sample_dataset, replace(RECIPE, seed=1), tmp_path)


def test_the_shipped_recipe_is_complete() -> None:
    assert 0 < load_recipe(project_path("parameters/generators.yaml")).false_alarms < 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fake: 3", "no parameter 'fake': did you mean 'fakes'"),
        ("seed: 0", "fakes is None"),
        ("fakes: [", "cannot be read"),
        ("5", "holds no parameters"),
    ],
)
def test_a_recipe_with_errors_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_recipe(path)

"""Recipes of the baselines: complete settings, each as its source has it."""

from dataclasses import fields

import pytest
from conftest import settings

from lib.training.baselines import RECIPES, VGG_CANDIDATES, is_small_budget
from lib.training.settings import Settings

HARDWARE = {"seed", "precision", "accelerator", "threads", "devices", "num_nodes", "strategy"}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_sets_everything_but_seed_and_hardware(name: str) -> None:
    assert set(RECIPES[name]) == {field.name for field in fields(Settings)} - HARDWARE
    settings(**RECIPES[name])


def test_cnn_baseline_is_trained_as_in_the_student_project() -> None:
    expected = {"epochs": 70, "batch_size": 128, "lr": 0.00572, "weight_decay": 0.0, "schedule": "constant",
                "dropout": 0.158, "flip": False, "translate": 0}  # fmt: skip
    assert expected.items() <= RECIPES["cnn_baseline"].items()


@pytest.mark.parametrize("name", VGG_CANDIDATES)
def test_candidates_change_the_optimiser_alone(name: str) -> None:
    assert set(VGG_CANDIDATES[name]) == {"optimizer", "lr", "weight_decay"}
    settings(**RECIPES["vgg16_bn"] | VGG_CANDIDATES[name])


@pytest.mark.parametrize(
    ("epochs", "images", "small"), [(40, 0, False), (39, 0, True), (40, 999, True), (40, 5000, False), (50, 800, False)]
)
def test_fewer_images_than_the_recipe_has_are_a_small_budget(epochs: int, images: int, small: bool) -> None:
    assert is_small_budget("vgg16_bn", epochs, images, num_train_images=1000) == small

"""Recipes of the baselines: the parameters with which each trains at its best, from its authors or from practice."""

from typing import Any

# What neither baseline has: ours alone, and evaluation without test-time augmentation.
_PLAIN: dict[str, Any] = {
    "muon_lr": 0.0, "label_smoothing": 0.0, "corruption_prob": 0.0, "cutout_size": 0, "cutmix_prob": 0.0,
    "aux_loss_weight": 0.0, "sample_fraction": 1.0, "max_train_samples": 0, "hflip_tta": False,
}  # fmt: skip

# The student project's: Adam (AdamW without weight decay) at a constant learning rate, and no augmentation. It was
# found by a grid, then a Bayesian sweep of learning rate, dropout and architecture.
_CNN_BASELINE = {
    "network": "plain_64_128", "epochs": 70, "batch_size": 128, "optimizer": "adamw", "schedule": "constant",
    "lr": 0.00572, "weight_decay": 0.0, "dropout": 0.158, "flip": False, "translate": 0,
}  # fmt: skip

# As VGG-BN is trained on CIFAR-10: flips, translation by 4 pixels, SGD with Nesterov momentum and weight decay 5e-4
# (Zagoruyko & Komodakis 2016, arXiv 1605.07146, section 3), under one cycle (Smith & Topin 2018, arXiv 1708.07120).
_VGG = {
    "network": "vgg16_bn", "epochs": 40, "batch_size": 256, "optimizer": "sgd", "schedule": "one_cycle",
    "lr": 0.1, "weight_decay": 5e-4, "dropout": 0.0, "flip": True, "translate": 4,
}  # fmt: skip

# All of lib.training.settings but seed and hardware.
RECIPES: dict[str, dict[str, Any]] = {"cnn_baseline": _PLAIN | _CNN_BASELINE, "vgg16_bn": _PLAIN | _VGG}

# Optimisers of VGG16-BN among which validation accuracy after a short training chooses.
VGG_CANDIDATES: dict[str, dict[str, Any]] = {
    **{f"sgd-{lr:g}": {"optimizer": "sgd", "lr": lr, "weight_decay": 5e-4} for lr in (0.03, 0.1)},
    **{f"adamw-{lr:g}": {"optimizer": "adamw", "lr": lr, "weight_decay": 0.05} for lr in (0.001, 0.003)},
}


def is_small_budget(baseline: str, epochs: int, num_images: int, num_train_images: int) -> bool:
    """Return whether `epochs` of `num_images` (0: all `num_train_images`) are fewer images than a baseline's recipe."""
    whole = RECIPES[baseline]["epochs"] * num_train_images
    return epochs * min(num_images or num_train_images, num_train_images) < whole

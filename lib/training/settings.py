"""The hyperparameters of a training, validated."""

from dataclasses import dataclass

from lib.core.errors import InputError
from lib.data.augment import Augmentation
from lib.models.device import choose_device

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class Settings:
    """Hold all parameters that determine the outcome of a training. Raises InputError for a value out of range.

    Optimisation: `batch_size` counts the images of a step on all devices together. `muon_lr` is the maximum learning
    rate of Muon on convolutions (0: AdamW optimises them too), `lr` that of AdamW.

    Augmentation (lib.data.augment): half of the images are flipped with `flip`, and all translated by up to `translate`
    pixels. `corruption_prob` is the probability of noise, JPEG or blur, `cutout_size` the side of the Cutout square in
    pixels, `cutmix_prob` the probability of CutMix (lib.data.cutmix).

    Targets: `aux_loss_weight` weighs the auxiliary loss, the cross-entropy of the object class (0: no auxiliary target,
    1: as if every pair of label and object class were a class).

    Data: `max_train_samples` limits the training images (0, or more than there are: all), and an epoch has the fraction
    `sample_fraction` of them (lib.training.hard_examples). `hflip_tta` averages the logits of an image and its flip in
    evaluation.

    Hardware: `accelerator` is "cpu", "gpu" or "auto", `precision` "float32" or "bfloat16", `threads` the CPU threads
    (0: one a usable core). `devices` (of each machine), `num_nodes` (machines) and `strategy` are Lightning's.
    """

    network: str
    epochs: int
    batch_size: int
    muon_lr: float
    lr: float
    weight_decay: float
    dropout: float
    label_smoothing: float
    flip: bool
    translate: int
    corruption_prob: float
    hflip_tta: bool
    max_train_samples: int
    seed: int
    precision: str
    accelerator: str
    threads: int
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    # Optional, because the run.json of an older run lacks them.
    sample_fraction: float = 1.0
    cutout_size: int = 0
    cutmix_prob: float = 0.0
    aux_loss_weight: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "epochs": (1, 10_000), "batch_size": (2, 65_536), "muon_lr": (0, 10), "lr": (1e-8, 10),
            "weight_decay": (0, 10), "dropout": (0, 0.99), "label_smoothing": (0, 0.99), "translate": (0, 16),
            "corruption_prob": (0, 1), "max_train_samples": (0, 10**9), "seed": (0, 10**9), "threads": (0, 4096),
            "sample_fraction": (0.01, 1), "cutout_size": (0, 31), "cutmix_prob": (0, 1), "aux_loss_weight": (0, 100),
            "devices": (1, 4096), "num_nodes": (1, 4096),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} is {getattr(self, name)}: give a value from {low} to {high}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision is {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        choose_device(self.accelerator)

    @property
    def augmentation(self) -> Augmentation:
        """Return the augmentation of training images."""
        return Augmentation(self.flip, self.translate, self.corruption_prob, self.cutout_size)

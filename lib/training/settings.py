"""The hyperparameters of a training, validated."""

from dataclasses import dataclass, fields

from lib.core.errors import InputError
from lib.core.input_rule import IMAGE_SIZE
from lib.core.parameters import out_of_limits
from lib.data.augment import Augmentation
from lib.models.device import choose_device

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class Settings:
    """Hold all parameters that determine the outcome of a training. Raises InputError for a value out of range.

    Optimisation: `batch_size` counts the images of a step on all devices together. `muon_lr` is the maximum learning
    rate of Muon on convolutions (0: `optimizer` optimises them too), `lr` that of `optimizer`: "adamw", or "sgd" with
    Nesterov momentum, without Muon. `schedule` is "one_cycle", or "constant" for the maximum learning rate throughout.

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
    optimizer: str = "adamw"
    schedule: str = "one_cycle"

    def __post_init__(self) -> None:
        for field in fields(self):
            if mistake := out_of_limits(field.name, getattr(self, field.name)):
                raise InputError(mistake)
        if self.muon_lr and self.optimizer != "adamw":
            raise InputError(f"muon_lr is {self.muon_lr}, but Muon goes with adamw, not {self.optimizer}: set it to 0")
        choose_device(self.accelerator)

    def augmentation(self, image_size: int = IMAGE_SIZE, margin: int = 0) -> Augmentation:
        """Return the augmentation of training images of that size, packed with that margin."""
        return Augmentation(
            self.flip, self.translate, self.corruption_prob, self.cutout_size, image_size=image_size, margin=margin
        )

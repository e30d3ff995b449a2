"""What decides the outcome of a training, checked."""

from dataclasses import dataclass

from lib.augment import Augmentation
from lib.device import choose_device
from lib.errors import InputError

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class Settings:
    """Hold what decides the outcome of a training. Raises InputError for a value that makes no sense.

    `degrade` is the share of training images with noise, JPEG or blur, `erase` the side of the square that is made grey
    in each (lib.augment), `cutmix` the share of those with a part of another (lib.cutmix). With `object_weight` object
    classes are learnt too, and their cross-entropy weighs so much beside that of the labels (1: as if every pair of
    label and object class were a class).
    `batch_size` counts the images of one step on all devices together. `muon_rate` is the step of Muon on the
    filters (0: AdamW moves them too), `learning_rate` that of AdamW. With `mirror` the network answers with the
    mean over an image and its mirror image. `train_images` 0 means all of them; `epoch_share` is how much of them an
    epoch sees (lib.hard_examples); `threads` 0 means as many as there are cores; `accelerator` and `precision` are
    "cpu", "gpu" or "auto", and "float32" or "bfloat16".
    `devices` (of each machine), `num_nodes` (machines) and `strategy` are Lightning's.
    """

    network: str
    epochs: int
    batch_size: int
    muon_rate: float
    learning_rate: float
    weight_decay: float
    dropout: float
    label_smoothing: float
    flip: bool
    shift: int
    degrade: float
    mirror: bool
    train_images: int
    seed: int
    precision: str
    accelerator: str
    threads: int
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    # Records of earlier runs have none of these.
    epoch_share: float = 1.0
    erase: int = 0
    cutmix: float = 0.0
    object_weight: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "epochs": (1, 10_000), "batch_size": (2, 65_536), "muon_rate": (0, 10), "learning_rate": (1e-8, 10),
            "weight_decay": (0, 10), "dropout": (0, 0.99), "label_smoothing": (0, 0.99), "shift": (0, 16),
            "degrade": (0, 1), "train_images": (0, 10**9), "seed": (0, 10**9), "threads": (0, 4096),
            "epoch_share": (0.01, 1), "erase": (0, 31), "cutmix": (0, 1), "object_weight": (0, 100),
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
        """Return how training images vary."""
        return Augmentation(self.flip, self.shift, self.degrade, self.erase)

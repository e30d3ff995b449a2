"""Hard-example sampling: an epoch has the images of highest loss and a weighted random sample of the others."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lib.training.checkpoints import checkpoint_to_resume

_HARDEST = 0.4  # of an epoch's samples


def last_losses(checkpoints: Path, num_samples: int) -> Tensor:
    """Return the loss of each of `num_samples` training images as last computed: float32, in the order of training.

    An image that was never in an epoch, or always mixed by CutMix, has infinity; so have all where `checkpoints`,
    a folder, has none.
    """
    path = checkpoint_to_resume(checkpoints)
    if path is None:
        return torch.full((num_samples,), torch.inf)
    return torch.load(path, map_location="cpu", weights_only=True)["callbacks"][HardExampleSampler.__name__]["losses"]


class HardExampleSampler(pl.Callback):
    """Sample the fraction `fraction` (1: all) of `num_samples` training images for each epoch.

    Two fifths of the samples are the images with the highest losses, each as last computed in training. The others are
    drawn at random from all remaining images, and weighted by the inverse of their sampling probability. The expected
    gradient is therefore that of all images, most of which are easy and contribute little to it (InfoBatch, Qin et al.
    2024, arXiv 2303.04947, prunes and rescales in the same way). An image without a loss yet counts as hardest; a
    negative loss is ignored.
    """

    def __init__(self, num_samples: int, fraction: float) -> None:
        self.fraction = fraction
        self.losses = torch.full((num_samples,), torch.inf)

    def sample(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return the indices of the next epoch (int64, ascending) and the weights of all images (float32, 0 if unused).

        The weights of the sampled images have mean 1. The same seed and losses give the same sample.
        """
        generator = torch.Generator().manual_seed(seed)
        shuffled = torch.randperm(len(self.losses), generator=generator)
        order = shuffled[self.losses[shuffled].argsort(descending=True, stable=True)]
        n = max(1, round(self.fraction * len(order)))
        hardest, rest = order.tensor_split([round(_HARDEST * n)])
        drawn = rest[torch.randperm(len(rest), generator=generator)[: n - len(hardest)]]
        weights = torch.zeros(len(order))
        weights[hardest] = 1.0
        weights[drawn] = len(rest) / len(drawn)
        return torch.cat((hardest, drawn)).sort().values, weights * n / len(order)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batches.append((batch.indices, outputs["losses"].clone()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Each process has the losses of its own images; Lightning saves checkpoints after this hook.
        indices, losses = map(torch.cat, zip(*self._batches, strict=True))
        own = torch.full_like(self.losses, -1.0, device=losses.device)
        own[indices] = losses
        latest = trainer.strategy.reduce(own, reduce_op="max").cpu()
        self.losses = torch.where(latest < 0, self.losses, latest)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = state_dict["losses"]

"""An epoch of the images that are hard, and of a few others, drawn by chance, which weigh more for it."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

_HARDEST = 0.4  # of an epoch's places


class HardExamples(pl.Callback):
    """Choose what an epoch sees of `images` training images: the share `share` of them (1: all).

    Two fifths of the places go to the images with the largest losses, as each was when last seen. The others are drawn
    from all the rest, and weigh as much more as there are more of those than places: the expected gradient stays that
    of all images, most of which are easy and add little to it (dropping some by chance and weighing what stays:
    InfoBatch, Qin et al. 2024, arXiv 2303.04947). Images not yet seen count as hardest; a loss below 0 says nothing of
    its image.
    """

    def __init__(self, images: int, share: float) -> None:
        self.share = share
        self.losses = torch.full((images,), torch.inf)

    def choose(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return which images (int64, ascending) the next epoch sees, and of all the weights (0 for one not seen).

        The weights of those seen have the mean 1; the same seed and losses choose the same.
        """
        generator = torch.Generator().manual_seed(seed)
        by_chance = torch.randperm(len(self.losses), generator=generator)
        order = by_chance[self.losses[by_chance].argsort(descending=True, stable=True)]
        places = max(1, round(self.share * len(order)))
        hardest, rest = order.tensor_split([round(_HARDEST * places)])
        drawn = rest[torch.randperm(len(rest), generator=generator)[: places - len(hardest)]]
        weights = torch.zeros(len(order))
        weights[hardest] = 1.0
        weights[drawn] = len(rest) / len(drawn)
        return torch.cat((hardest, drawn)).sort().values, weights * places / len(order)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._seen.append((batch.rows, outputs["losses"].clone()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Each process has seen its own images; Lightning saves checkpoints after this.
        rows, losses = map(torch.cat, zip(*self._seen, strict=True))
        own = torch.full_like(self.losses, -1.0, device=losses.device)
        own[rows] = losses
        seen = trainer.strategy.reduce(own, reduce_op="max").cpu()
        self.losses = torch.where(seen < 0, self.losses, seen)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = state_dict["losses"]

"""The LightningModule: loss, metrics, optimiser."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import InputError

Batch = tuple[Tensor, Tensor]


class Detector(pl.LightningModule):
    """Train a network on batches of `(images, labels)`: AdamW under a one-cycle learning rate.

    The rate rises to `learning_rate` over the first fifth of all steps and falls to near 0 (Smith & Topin 2018,
    arXiv 1708.07120). Weight decay acts on convolutions and linear layers, not on norms and biases. Raises
    InputError for a training of a single step.
    """

    def __init__(
        self, network: nn.Module, learning_rate: float, weight_decay: float, label_smoothing: float, seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.label_smoothing, self.seed = label_smoothing, seed

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator: a resumed epoch must draw what the unbroken run drew.
        torch.manual_seed(self.seed * 10_000 + self.current_epoch)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self._log("train", loss, logits, labels)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        images, labels = batch
        logits = self.network(images)
        self._log("val", F.cross_entropy(logits, labels), logits, labels)

    def configure_optimizers(self) -> dict[str, object]:
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, self.learning_rate, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        if steps < 2:
            raise InputError("training would have a single step: lower batch_size, or raise epochs or train_images")
        rise = max(0.2, 1.5 / steps)  # a rise of no step at all would divide by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, steps, pct_start=rise)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _log(self, stage: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        accuracy = (logits.argmax(1) == labels).float().mean()
        figures = {f"{stage}/loss": loss.detach(), f"{stage}/acc": accuracy}
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=len(labels))

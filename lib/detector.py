"""The LightningModule: loss, metrics, optimiser."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.batches import TrainBatch
from lib.errors import InputError
from lib.muon import Muon
from lib.settings import Settings


class Detector(pl.LightningModule):
    """Train a network on batches (lib.batches): Muon and AdamW under a one-cycle learning rate.

    Muon moves the filters of convolutions, AdamW everything else, or everything where `muon_rate` is 0. The rates
    rise linearly over the first tenth of all steps and fall linearly to near 0 (Smith & Topin 2018, arXiv
    1708.07120). Weight decay acts on what AdamW moves, but for norms and biases. Raises InputError for a training
    of a single step.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network, self.seed, self.label_smoothing = network, settings.seed, settings.label_smoothing
        self.muon_rate, self.learning_rate = settings.muon_rate, settings.learning_rate
        self.weight_decay, self.object_weight = settings.weight_decay, settings.object_weight

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator: a resumed epoch must draw what the unbroken run drew.
        torch.manual_seed(self.seed * 10_000 + self.current_epoch)

    def training_step(self, batch: TrainBatch, _: int) -> dict[str, Tensor]:
        joint = self.network.joint(batch.images).float()
        columns = joint.shape[1]  # which learn each by itself
        joint = joint.flatten(0, 1)
        labels, objects = (part.repeat_interleave(columns, 0) for part in (batch.labels, batch.objects))
        logits = joint.logsumexp(2)
        losses = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="none")
        losses, logits = losses.view(-1, columns).mean(1), logits.view(-1, columns, 2).mean(1)
        objects = object_losses(joint, labels, objects).view(-1, columns).mean(1) if self.object_weight else 0.0
        loss = ((losses + self.object_weight * objects) * batch.weights).mean()
        self._log("train", loss, logits, batch.labels)
        return {"loss": loss, "losses": losses.detach()}

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        logits = self.network(images)
        self._log("val", F.cross_entropy(logits, labels), logits, labels)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = self.optimizer()
        steps = int(self.trainer.estimated_stepping_batches)
        if steps < 2:
            raise InputError("training would have a single step: lower batch_size, or raise epochs or train_images")
        peaks = [group["lr"] for group in optimizer.param_groups]
        rise = max(0.1, 1.5 / steps)  # a rise of no step at all would divide by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, peaks, steps, pct_start=rise, anneal_strategy="linear", cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser at its peak rates."""
        # A convolution without a bias has a batch normalisation after it, which Muon relies on.
        convolutions = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d) and layer.bias is None]
        filters = [layer.weight for layer in convolutions] if self.muon_rate else []
        others = [p for p in self.parameters() if not any(p is bank for bank in filters)]
        groups = [
            {"params": [p for p in others if p.ndim > 1]},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if filters:
            return Muon(filters, groups, self.muon_rate, self.learning_rate, self.weight_decay)
        return torch.optim.AdamW(groups, self.learning_rate, weight_decay=self.weight_decay)

    def _log(self, stage: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        classes = labels.argmax(1) if labels.is_floating_point() else labels  # of a teacher: lib.distil
        accuracy = (logits.argmax(1) == classes).float().mean()
        figures = {f"{stage}/loss": loss.detach(), f"{stage}/acc": accuracy}
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=len(labels), sync_dist=True)


def object_losses(joint: Tensor, labels: Tensor, objects: Tensor) -> Tensor:
    """Return the cross-entropy of each image's object class, given its label: float32 N.

    `joint` are logits N×2×K, `labels` int64 N, or the probabilities of both (N×2), `objects` int64 N. Added to the
    cross-entropy of the label, it makes that of the pair.
    """
    given = -joint.log_softmax(2).gather(2, objects[:, None, None].expand(-1, 2, 1))[:, :, 0]
    if not labels.is_floating_point():
        return given.gather(1, labels[:, None])[:, 0]
    return (labels * given).sum(1)

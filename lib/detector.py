"""The LightningModule: loss, metrics, optimiser."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.batches import TrainBatch
from lib.cuda_graph import RecordedStep
from lib.errors import InputError
from lib.muon import Muon
from lib.settings import Settings


class Detector(pl.LightningModule):
    """Train a network on batches (lib.batches): Muon and AdamW under a one-cycle learning rate.

    Muon moves the filters of convolutions, AdamW everything else, or everything where `muon_rate` is 0. The rates
    rise linearly over the first tenth of all steps and fall linearly to near 0 (Smith & Topin 2018, arXiv
    1708.07120). Weight decay acts on what AdamW moves, but for norms and biases. A single GPU is given whole steps
    (lib.cuda_graph). Raises InputError for a training of a single step.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network, self.seed, self.label_smoothing = network, settings.seed, settings.label_smoothing
        self.muon_rate, self.learning_rate = settings.muon_rate, settings.learning_rate
        self.weight_decay, self.object_weight = settings.weight_decay, settings.object_weight

    def setup(self, stage: str) -> None:
        self.automatic_optimization = not on_one_gpu(self.trainer)

    def on_train_start(self) -> None:
        optimizer = self.optimizers().optimizer
        for group in optimizer.param_groups:
            group["capturable"] = False  # it may come from a checkpoint of recorded steps
        if not self.automatic_optimization:
            self.step = RecordedStep(lambda batch: self._whole_step(batch, optimizer), optimizer)

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator: a resumed epoch must draw what the unbroken run drew.
        torch.manual_seed(self.seed * 10_000 + self.current_epoch)
        self.sums = torch.zeros(3, device=self.device)

    def on_train_end(self) -> None:
        self.step = None  # with its memory

    def training_step(self, batch: TrainBatch, _: int) -> dict[str, Tensor]:
        if self.automatic_optimization:
            figures = self.losses(batch)
        else:
            # The step moves the weights itself, and leaves no gradients to move them by.
            figures = self.optimizers().step(lambda: self.step(batch))
            self.lr_schedulers().step()
        self.sums += figures["sums"]
        if self.trainer.is_last_batch:
            loss, right, n = self.sums
            means = {"train/loss": loss / n, "train/acc": right / n}
            self.log_dict(means, on_step=False, on_epoch=True, sync_dist=True)
        return figures

    def _whole_step(self, batch: TrainBatch, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        figures = self.losses(batch)
        self.manual_backward(figures.pop("loss"))
        optimizer.step()
        optimizer.zero_grad()
        return figures

    def losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Return the `loss` to lower, the `losses` of the labels (N; −1 for images that are mixed of two), and `sums`
        over the images: of the loss, of verdicts that are right, and of 1."""
        joint = self.network.joint(batch.images).float()  # of columns, which learn each by itself
        targets = batch.targets[:, None].expand(-1, joint.shape[1], -1, -1)
        labels, logits = targets.sum(3), joint.logsumexp(3)
        smoothing = self.label_smoothing
        losses = F.cross_entropy(logits.mT, labels.mT, label_smoothing=smoothing, reduction="none").mean(1)
        objects = object_losses(joint, targets).mean(1) if self.object_weight else 0.0
        loss = ((losses + self.object_weight * objects) * batch.weights).mean()
        right = accuracy(logits.mean(1), labels[:, 0].argmax(1))
        sums = torch.stack([loss.detach(), right, torch.ones_like(right)]) * len(losses)
        return {"loss": loss, "losses": losses.detach().where(batch.whole, -1.0), "sums": sums}

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        logits = self.network(images)
        figures = {"val/loss": F.cross_entropy(logits, labels), "val/acc": accuracy(logits, labels)}
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=len(labels), sync_dist=True)

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


def on_one_gpu(trainer: pl.Trainer) -> bool:
    """Tell whether a single GPU trains, and alone."""
    return trainer.strategy.root_device.type == "cuda" and trainer.world_size == 1


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of N×2 logits whose larger one is of the label (int64 N)."""
    return (logits.argmax(1) == labels).float().mean()


def object_losses(joint: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each image's object class, given its label.

    `joint` are logits of all pairs of label and object class, `targets` how far an image is of each, both …×2×K. Added
    to the cross-entropy of the label, it makes that of the pair.
    """
    # Products, not indices: their gradients are the same each time, without waiting for the GPU.
    return -(targets * joint.log_softmax(-1)).sum((-2, -1))

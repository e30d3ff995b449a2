"""The LightningModule: loss, metrics, optimiser."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.data.batches import TrainBatch
from lib.training.cuda_graph import GraphedStep
from lib.training.muon import Muon
from lib.training.schedule import one_cycle
from lib.training.settings import Settings
from lib.training.sgd import SGD


class Detector(pl.LightningModule):
    """Train a network on TrainBatch (lib.data.batches) with Muon, AdamW or SGD.

    Muon optimises the filters of convolutions, AdamW all other parameters; AdamW or SGD optimises everything if
    `muon_lr` is 0. The learning rates follow a schedule (lib.training.schedule); a single step has the maximum rates.
    Weight decay applies to the parameters of AdamW or SGD except norms and biases. On a single GPU, steps run as CUDA
    graphs (lib.training.cuda_graph). `train/loss` and `val/loss` are of the same target, the label: neither has the
    auxiliary loss.
    """

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network, self.seed, self.label_smoothing = network, settings.seed, settings.label_smoothing
        self.muon_lr, self.lr = settings.muon_lr, settings.lr
        self.weight_decay, self.aux_loss_weight = settings.weight_decay, settings.aux_loss_weight
        self.optimizer_name, self.schedule = settings.optimizer, settings.schedule

    def setup(self, stage: str) -> None:
        self.automatic_optimization = not on_one_gpu(self.trainer)

    def on_train_start(self) -> None:
        optimizer = self.optimizers().optimizer
        for group in optimizer.param_groups:
            group["capturable"] = False  # a checkpoint of graphed steps has it set
        if not self.automatic_optimization:
            self.step = GraphedStep(lambda batch: self._full_step(batch, optimizer), optimizer)

    def on_train_epoch_start(self) -> None:
        # Dropout draws from the global generator: a resumed epoch must draw what an uninterrupted run draws.
        torch.manual_seed(self.seed * 10_000 + self.current_epoch)
        self.sums = torch.zeros(3, device=self.device)

    def on_train_end(self) -> None:
        self.step = None  # frees the memory of its graphs

    def training_step(self, batch: TrainBatch, _: int) -> dict[str, Tensor]:
        if self.automatic_optimization:
            outputs = self.losses(batch)
        else:
            # The step updates the weights itself and leaves no gradients.
            outputs = self.optimizers().step(lambda: self.step(batch))
            if schedule := self.lr_schedulers():
                schedule.step()
        self.sums += outputs["sums"]
        if self.trainer.is_last_batch:
            loss, correct, weights = self.sums
            means = {"train/loss": loss / weights, "train/acc": correct / weights}
            self.log_dict(means, on_step=False, on_epoch=True, sync_dist=True)
        return outputs

    def _full_step(self, batch: TrainBatch, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        outputs = self.losses(batch)
        self.manual_backward(outputs.pop("loss"))
        optimizer.step()
        optimizer.zero_grad()
        return outputs

    def losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Return the losses of a batch: `loss`, `losses` and `sums`.

        `loss` is the scalar to minimise, `losses` the cross-entropy of each image's label (float32 N; −1 for images
        mixed by CutMix), and `sums` the weighted sums over the images of the cross-entropy without label smoothing, of
        correct predictions, and of 1: with hard-example sampling they estimate those over all training images.
        """
        joint_logits = self.network.joint_logits(batch.images).float()  # members of an ensemble are trained separately
        targets = batch.targets[:, None].expand(-1, joint_logits.shape[1], -1, -1)
        labels, logits = targets.sum(3), joint_logits.logsumexp(3)
        smoothing = self.label_smoothing
        losses = F.cross_entropy(logits.mT, labels.mT, label_smoothing=smoothing, reduction="none").mean(1)
        auxiliary = aux_losses(joint_logits, targets).mean(1) if self.aux_loss_weight else 0.0
        loss = ((losses + self.aux_loss_weight * auxiliary) * batch.weights).mean()
        correct = logits.mean(1).argmax(1) == labels[:, 0].argmax(1)
        sharp = F.cross_entropy(logits.mT, labels.mT, reduction="none").mean(1) if smoothing else losses
        sums = (torch.stack([sharp.detach(), correct, torch.ones_like(losses)]) * batch.weights).sum(1)
        return {"loss": loss, "losses": losses.detach().where(batch.unmixed, -1.0), "sums": sums}

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        logits = self.network(images)
        metrics = {"val/loss": F.cross_entropy(logits, labels), "val/acc": accuracy(logits, labels)}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(labels), sync_dist=True)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = self.optimizer()
        steps = int(self.trainer.estimated_stepping_batches)
        if self.schedule == "constant" or steps < 2:  # of few images: there is nothing to schedule
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle(optimizer, steps), "interval": "step"}}

    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser, with the maximum learning rates."""
        # A convolution without a bias is followed by batch normalisation, which Muon's rescaling relies on.
        convolutions = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d) and layer.bias is None]
        filters = [layer.weight for layer in convolutions] if self.muon_lr else []
        others = [p for p in self.parameters() if not any(p is it for it in filters)]
        groups = [
            {"params": [p for p in others if p.ndim > 1]},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if filters:
            return Muon(filters, groups, self.muon_lr, self.lr, self.weight_decay)
        if self.optimizer_name == "sgd":
            return SGD(groups, self.lr, self.weight_decay)
        return torch.optim.AdamW(groups, self.lr, weight_decay=self.weight_decay)


def on_one_gpu(trainer: pl.Trainer) -> bool:
    """Tell whether training runs in one process on one GPU."""
    return trainer.strategy.root_device.type == "cuda" and trainer.world_size == 1


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of N×2 logits whose argmax is the label (int64 N)."""
    return (logits.argmax(1) == labels).float().mean()


def aux_losses(joint_logits: Tensor, targets: Tensor) -> Tensor:
    """Return the auxiliary loss of each image: the cross-entropy of its object class, given its label.

    `joint_logits` are the logits of all joint classes of label and object class, `targets` their probabilities, both
    …×2×K. The cross-entropy of the label plus this one is the cross-entropy of the joint class.
    """
    # Products rather than indexing: their gradients are deterministic and need no synchronisation with the GPU.
    return -(targets * joint_logits.log_softmax(-1)).sum((-2, -1))

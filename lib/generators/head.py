"""A second head on the frozen released network, for the fakes of other generators.

It computes a linear score of the statistics of all layers, and adds the entropy of the object class: an image that a
generator made of nothing often resembles no class of objects.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.models.networks import JointLinear, Network

_CLIP = 6.0  # standard deviations, beyond which a statistic says no more
_LEAST = 1e-3  # added to standard deviations, and to entropies before their logarithm


class LayerStatistics(nn.Module):
    """Compute mean and standard deviation of each channel after each activation, last features, and joint logits.

    From normalised images N×3×32×32 to N×F, of all ensemble members one after the other; the joint logits of label and
    object class, members×2×K, come last. Raises InputError for a network without object classes.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.members = nn.ModuleList(member.backbone for member in network.members())
        if not all(isinstance(member[-1], JointLinear) for member in self.members):
            raise InputError("the network has no object classes: train it with an aux_loss_weight")
        self.joint_shape = (len(self.members), 2, self.members[0][-1].out_features // 2)

    def forward(self, images: Tensor) -> Tensor:
        statistics, joint = [], []
        for member in self.members:
            x = images
            for layer in member[:-1]:
                x = layer(x)
                if isinstance(layer, nn.GELU | nn.ReLU):
                    pixels = x.flatten(2)
                    statistics += [pixels.mean(2), pixels.std(2)]
            statistics.append(x)
            joint.append(member[-1].joint_logits(x).flatten(1))
        return torch.cat([*statistics, *joint], 1)


class GeneratorHead(nn.Module):
    """Compute logits N×2 (FAKE, REAL) of layer statistics: the image is FAKE if either score is above its threshold.

    `released` is the margin of the released network, `generators` the score of this head; both are 0 at their
    thresholds. Below its own, the released margin says nothing, and the head's score is the margin.
    """

    def __init__(self, joint_shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.joint_shape = joint_shape
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("weight", torch.zeros(width + 1))
        for name in ("entropy_weight", "bias", "released_threshold"):
            self.register_buffer(name, torch.zeros(()))

    def scores(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Return `released` and `generators` (N each)."""
        joint = self._joint(statistics)
        margins = joint.logsumexp(3)
        released = (margins[:, :, 0] - margins[:, :, 1]).mean(1) - self.released_threshold
        linear = self.inputs(statistics) @ self.weight
        return released, linear + self.entropy_weight * self.entropy(statistics) + self.bias

    def inputs(self, statistics: Tensor) -> Tensor:
        """Return the standardised `values`, cut off at six standard deviations, and a 1 (N×(width + 1))."""
        inputs = ((self.values(statistics) - self.centre) / self.scale).clamp(-_CLIP, _CLIP)
        return nn.functional.pad(inputs, (0, 1), value=1.0)

    def values(self, statistics: Tensor) -> Tensor:
        """Return the statistics without the joint logits but with the entropy in two forms (N×width)."""
        entropy = self.entropy(statistics)[:, None]
        return torch.cat([statistics[:, : -math.prod(self.joint_shape)], entropy.sqrt(), (entropy + _LEAST).log()], 1)

    def entropy(self, statistics: Tensor) -> Tensor:
        """Return the entropy of the object class, given that the image is REAL (nats, N)."""
        log_probability = self._joint(statistics).mean(1)[:, 1].log_softmax(1)
        return -(log_probability.exp() * log_probability).sum(1)

    def forward(self, statistics: Tensor) -> Tensor:
        released, generators = self.scores(statistics)
        margin = torch.where(released > 0, torch.maximum(released, generators), generators)
        return torch.stack([margin, -margin], 1) / 2

    def _joint(self, statistics: Tensor) -> Tensor:
        return statistics[:, -math.prod(self.joint_shape) :].unflatten(1, self.joint_shape)


@dataclass(frozen=True)
class Moments:
    """Hold what a ridge regression needs of a set of images: means of products (F×F) and of inputs (F), float64."""

    products: np.ndarray
    mean: np.ndarray


class HeadFit:
    """Fit a GeneratorHead to sets of layer statistics (float32 N×F), with some sets of fakes left out at will.

    `real` and the sets of `fake` are for training: the weights are those of a ridge regression to −1 and +1, in which
    both classes, and all sets of fakes, count equally. `real_val` (REAL) and `cifake_val` (CIFAKE's FAKE) are for
    scales and thresholds: a share `false_alarms` of the former is above that of the head's score, a share `recall` of
    the latter above that of the released margin.
    """

    def __init__(self, joint_shape: tuple[int, int, int], real: Tensor, fake: dict[str, Tensor], ridge: float) -> None:
        width = real.shape[1] - math.prod(joint_shape) + 2
        self.head, self.ridge = GeneratorHead(joint_shape, width), ridge
        values = self.head.values(real)
        self.head.centre.copy_(values.mean(0))
        self.head.scale.copy_(values.std(0) + _LEAST)
        self.real = self._moments(real)
        self.fake = {name: self._moments(it) for name, it in fake.items()}

    def fit(
        self, real_val: Tensor, cifake_val: Tensor, false_alarms: float, recall: float, left_out: Sequence[str] = ()
    ) -> GeneratorHead:
        """Return the head fitted to all sets but those `left_out`."""
        head = copy.deepcopy(self.head)
        fake = [it for name, it in self.fake.items() if name not in left_out]
        matrix = self.real.products + np.mean([it.products for it in fake], 0)
        target = np.mean([it.mean for it in fake], 0) - self.real.mean
        weight = torch.from_numpy(np.linalg.solve(matrix + self.ridge * np.eye(len(target)), target)).float()
        # Over REAL images both parts of the score vary equally.
        head.weight.copy_(weight / (head.inputs(real_val) @ weight).std())
        head.entropy_weight.copy_(1 / head.entropy(real_val).std())
        head.bias.copy_(-_quantile(head.scores(real_val)[1], 1 - false_alarms))
        head.released_threshold.copy_(_quantile(head.scores(cifake_val)[0], 1 - recall))
        return head

    def _moments(self, statistics: Tensor) -> Moments:
        inputs = self.head.inputs(statistics)
        return Moments((inputs.T @ inputs / len(inputs)).double().numpy(), inputs.mean(0).double().numpy())


def _quantile(scores: Tensor, share: float) -> float:
    return float(np.quantile(scores.numpy(), share, method="higher"))

"""Distillation: a small network learns from what a larger one says of the same images (Hinton et al. 2015,
arXiv 1503.02531)."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.errors import InputError
from lib.networks import Network

_BATCH = 256  # images that the teacher judges at a time


@dataclass(frozen=True)
class Teacher:
    """Hold a trained network, and the share (0 to 1) its answers have in what another learns, beside the labels."""

    network: Network
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"the teacher's share is {self.share}: give a value from 0 to 1")

    @torch.inference_mode()
    def labels(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return what to learn of each image, float32 N×2 in class order, each adding up to 1.

        `images` are uint8 N×32×32×3, `labels` int64 N, on one device. The teacher sees them as they are: mirrored and
        moved images keep its answers.
        """
        network = self.network.to(images.device).eval()
        said = torch.cat([F.softmax(network(part.permute(0, 3, 1, 2)), 1) for part in images.split(_BATCH)])
        return self.share * said + (1 - self.share) * F.one_hot(labels, said.shape[1])

    def identity(self) -> str:
        """Return a digest of the teacher: what it teaches changes with it."""
        weights = b"".join(value.cpu().numpy().tobytes() for value in self.network.state_dict().values())
        return hashlib.sha256(weights + str(self.share).encode()).hexdigest()

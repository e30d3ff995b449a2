"""Knowledge distillation: a student is trained on the soft predictions of a teacher (Hinton et al. 2015,
arXiv 1503.02531)."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.core.errors import InputError
from lib.core.rows import ImageRows, equal_pixels
from lib.models.networks import Network

_BATCH_SIZE = 256  # images of 32×32


@dataclass(frozen=True)
class Teacher:
    """Hold a trained network, and the weight `alpha` (0 to 1) of its predictions in the targets of a student.

    Raises InputError for an `alpha` outside of that range.
    """

    network: Network
    alpha: float

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"distillation_alpha is {self.alpha}: give a value from 0 to 1")

    @torch.inference_mode()
    def targets(self, images: Tensor | ImageRows, labels: Tensor) -> Tensor:
        """Return soft targets, float32 N×2 in class order: alpha × predicted probabilities + (1 − alpha) × labels.

        `images` are uint8 N×S×S×3, `labels` int64 N, on one device (or the images in their file). The predictions are
        those without augmentation; they also serve as targets of flipped and translated images.
        """
        network = self.network.to(labels.device).eval()
        size = equal_pixels(_BATCH_SIZE, images[0].shape[0])
        parts = (torch.as_tensor(images[start : start + size]) for start in range(0, len(images), size))
        probs = torch.cat([F.softmax(network(part.to(labels.device).permute(0, 3, 1, 2)), 1) for part in parts])
        return self.alpha * probs + (1 - self.alpha) * F.one_hot(labels, probs.shape[1])

    def fingerprint(self) -> str:
        """Return a digest of the teacher's weights and alpha."""
        weights = b"".join(value.cpu().numpy().tobytes() for value in self.network.state_dict().values())
        return hashlib.sha256(weights + str(self.alpha).encode()).hexdigest()

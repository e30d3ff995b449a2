"""Distillation: targets are a mean of labels and teacher predictions, and the teacher is part of the fingerprint."""

from pathlib import Path

import pytest
import torch
from conftest import settings
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.data.dataset import PackedDataset
from lib.evaluation.predictions import predict
from lib.training.distillation import Teacher
from lib.training.train import train


class Constant(nn.Module):
    """Return the same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 32, 32)
        return self.logits.expand(len(images), 2)


def test_targets_are_the_mean_of_labels_and_teacher_predictions() -> None:
    images, labels = torch.zeros(300, 32, 32, 3, dtype=torch.uint8), torch.arange(300) % 2
    probs = torch.tensor([3.0, 1.0]).softmax(0)
    targets = Teacher(Constant(3.0, 1.0), 0.75).targets(images, labels)
    torch.testing.assert_close(targets[:2], 0.75 * probs + 0.25 * torch.eye(2))
    torch.testing.assert_close(targets.sum(1), torch.ones(300))
    with pytest.raises(InputError, match=r"distillation_alpha is 1\.5: give a value from 0 to 1"):
        Teacher(Constant(0.0, 0.0), 1.5)


@pytest.mark.slow
def test_student_follows_its_teacher_and_retrains_for_another(sample_dataset: PackedDataset, tmp_path: Path) -> None:
    predicted_fake = {}
    fake, real = (5.0, -5.0), (-5.0, 5.0)
    # All in one folder: no run may be reused for another teacher.
    for name, logits in (("FAKE", fake), ("REAL", real), ("REAL again", real)):
        teacher = Teacher(Constant(*logits), 1.0)
        network = train(sample_dataset, settings(), tmp_path, progress=False, teacher=teacher)
        table, _ = predict(network, sample_dataset, ("val",), "cpu", progress=False)
        predicted_fake[name] = (table["logit_FAKE"] > table["logit_REAL"]).mean()
    assert predicted_fake["FAKE"] > 0.95
    assert predicted_fake["REAL"] == predicted_fake["REAL again"] < 0.05

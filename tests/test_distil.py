"""Distillation: what is learnt is a mean of labels and answers, and a run with another teacher is another run."""

from pathlib import Path

import pytest
import torch
from conftest import settings
from torch import Tensor, nn

from lib.distil import Teacher
from lib.errors import InputError
from lib.pack import Pack
from lib.predictions import predict
from lib.training import train


class Says(nn.Module):
    """Say the same of every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 32, 32)
        return self.logits.expand(len(images), 2)


def test_what_is_learnt_is_a_mean_of_the_labels_and_the_teachers_answers() -> None:
    images, labels = torch.zeros(300, 32, 32, 3, dtype=torch.uint8), torch.arange(300) % 2
    said = torch.tensor([3.0, 1.0]).softmax(0)
    soft = Teacher(Says(3.0, 1.0), 0.75).labels(images, labels)
    torch.testing.assert_close(soft[:2], 0.75 * said + 0.25 * torch.eye(2))
    torch.testing.assert_close(soft.sum(1), torch.ones(300))
    with pytest.raises(InputError, match=r"share is 1\.5: give a value from 0 to 1"):
        Teacher(Says(0.0, 0.0), 1.5)


def test_a_network_learns_what_it_is_taught_and_anew_from_another_teacher(sample_pack: Pack, tmp_path: Path) -> None:
    shares = {}
    for name, teacher in (("FAKE", Says(5.0, -5.0)), ("REAL", Says(-5.0, 5.0)), ("REAL again", Says(-5.0, 5.0))):
        # All in one folder: none may be taken for another.
        network = train(sample_pack, settings(), tmp_path, progress=False, teacher=Teacher(teacher, 1.0))
        table, _ = predict(network, sample_pack, ("val",), "cpu", progress=False)
        shares[name] = (table["logit_FAKE"] > table["logit_REAL"]).mean()
    assert shares["FAKE"] > 0.95
    assert shares["REAL"] == shares["REAL again"] < 0.05

"""Settings: values out of range are rejected, with the name of the parameter."""

import pytest
import torch
from conftest import settings

from lib.core.errors import InputError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"devices": 0}, "devices is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"sample_fraction": 0.0}, r"sample_fraction is 0\.0: give a value from 0\.01 to 1"),
        ({"precision": "float16"}, "precision is 'float16': choose one of float32, bfloat16"),
        ({"accelerator": "tpu"}, "accelerator is 'tpu'"),
        ({"optimizer": "adam"}, "optimizer is 'adam': choose one of adamw, sgd"),
        ({"schedule": "cosine"}, "schedule is 'cosine': choose one of one_cycle, constant"),
        ({"optimizer": "sgd", "muon_lr": 0.1}, r"muon_lr is 0\.1, but Muon goes with adamw, not sgd: set it to 0"),
    ],
)
def test_settings_out_of_range_are_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(**change)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is available")
def test_gpu_is_rejected_if_there_is_none() -> None:
    with pytest.raises(InputError, match="PyTorch finds no GPU"):
        settings(accelerator="gpu")

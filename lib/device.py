"""The device that work runs on."""

import torch

from lib.errors import InputError

ACCELERATORS = ("auto", "cpu", "gpu")


def choose_device(accelerator: str) -> torch.device:
    """Return the device for "cpu", "gpu", or "auto" (a GPU where there is one).

    Raises InputError for another word, and for "gpu" where PyTorch sees none.
    """
    if accelerator not in ACCELERATORS:
        raise InputError(f"accelerator is {accelerator!r}: choose one of {', '.join(ACCELERATORS)}")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("accelerator is 'gpu', but PyTorch sees no GPU: choose cpu or auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")

"""The choice of device, and of the number of CPU threads."""

import joblib
import torch

from lib.core.errors import InputError

ACCELERATORS = ("auto", "cpu", "gpu")


def choose_device(accelerator: str) -> torch.device:
    """Return the device for "cpu", "gpu", or "auto" (a GPU if available).

    Raises InputError for any other value, and for "gpu" if PyTorch finds none.
    """
    if accelerator not in ACCELERATORS:
        raise InputError(f"accelerator is {accelerator!r}: choose one of {', '.join(ACCELERATORS)}")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("accelerator is 'gpu', but PyTorch finds no GPU: choose cpu or auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def set_threads(threads: int = 0, processes: int = 1) -> int:
    """Let PyTorch use `threads` CPU threads (0: one a usable core, shared by `processes`), and return their number.

    Usable are the cores that the process's affinity and its control group's quota allow, not all of the machine.
    """
    threads = threads or max(1, joblib.cpu_count() // processes)
    torch.set_num_threads(threads)
    return threads

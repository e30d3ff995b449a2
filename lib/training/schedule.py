"""The schedule of the learning rates."""

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> OneCycleLR:
    """Return the schedule that rises linearly over the first tenth of `steps` and falls linearly to near 0.

    The maxima are the learning rates that `optimizer` has (Smith & Topin 2018, arXiv 1708.07120).
    """
    max_lrs = [group["lr"] for group in optimizer.param_groups]
    warm_up = max(0.1, 1.5 / steps)  # a warm-up of no step at all would divide by zero
    return OneCycleLR(optimizer, max_lrs, steps, pct_start=warm_up, anneal_strategy="linear", cycle_momentum=False)


def learning_rates(peaks: dict[str, float], schedule: str, steps: int) -> dict[str, np.ndarray]:
    """Return the learning rate at each of `steps` (float64), by the name of its peak; a peak of 0 is left out."""
    peaks = {name: peak for name, peak in peaks.items() if peak}
    if schedule == "constant" or steps < 2:
        return {name: np.full(steps, peak) for name, peak in peaks.items()}
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks.values()])
    scheduler, rates = one_cycle(optimizer, steps), []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr())
        optimizer.step()
        if len(rates) < steps:
            scheduler.step()
    return dict(zip(peaks, np.array(rates).T, strict=True))

"""Muon for filters, AdamW for the rest, in one optimiser."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.AdamW):
    """Move `filters` along the orthogonalised momentum of their gradient, and `others` (groups) by AdamW.

    A step first scales a filter bank to norm √(output channels), since the batch normalisation after it makes its
    length meaningless, then adds −`muon_rate` times the semi-orthogonal matrix nearest to the Nesterov momentum of
    the gradient: all directions of a layer move by the same amount (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon; the scaling is that of airbench, arXiv 2404.00498). torch.optim.Muon
    takes matrices only, and nothing beside them.
    """

    def __init__(
        self,
        filters: Iterable[Tensor],
        others: Iterable[dict],
        muon_rate: float,
        lr: float,
        weight_decay: float,
        momentum: float = 0.6,
    ) -> None:
        bank = {"params": list(filters), "lr": muon_rate, "momentum": momentum}
        super().__init__([bank, *others], lr, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        bank = self.param_groups[0]
        alike = defaultdict(list)  # filter banks of one shape move together
        for weight in bank["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            state.setdefault("step", torch.zeros(()))  # AdamW looks for it in every state that it loads
            velocity = state.setdefault("velocity", torch.zeros_like(weight))
            velocity.mul_(bank["momentum"]).add_(weight.grad)
            ahead = weight.grad.add(velocity, alpha=bank["momentum"])
            alike[weight.shape].append((weight, ahead.flatten(1)))
            weight.grad = None  # so that AdamW passes it by
        for shape, moved in alike.items():
            weights, ahead = zip(*moved, strict=True)
            for weight, step in zip(weights, orthogonalise(torch.stack(ahead)), strict=True):
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.sub_(step.view(shape) * bank["lr"])
        super().step()
        return loss


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return nearly the semi-orthogonal matrix nearest to `matrix` (M×N, or K×M×N for K of them): its singular values
    go to about 1.

    `steps` rounds of a quintic Newton–Schulz iteration bring singular values from 0.01…1 of the Frobenius norm
    to 0.7…1.2. Each round multiplies by a polynomial of the Gram matrix, so the rounds can be done on that one, which
    is small and square, and their product applied once.
    """
    a, b, c = _QUINTIC
    x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    gram = x @ x.mT
    product = one = torch.eye(gram.shape[-1], device=x.device, dtype=x.dtype)
    for _ in range(steps):
        factor = a * one + b * gram + c * gram @ gram
        product, gram = factor @ product, factor @ gram @ factor
    x = product @ x
    return x.mT if tall else x

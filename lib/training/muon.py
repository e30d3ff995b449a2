"""Muon for convolutions and AdamW for all other parameters, in one optimiser."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic polynomial, from Jordan et al. 2024


class Muon(torch.optim.AdamW):
    """Optimise `conv_filters` by Muon, and `others` (parameter groups) by AdamW.

    A step of Muon first rescales a layer's filters to norm √(output channels): batch normalisation follows, so their
    norm has no effect on the output. It then subtracts `muon_lr` times the semi-orthogonal matrix nearest to the
    Nesterov momentum of the gradient, so that all directions of a layer change by the same amount (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon; the rescaling is that of airbench, arXiv 2404.00498). torch.optim.Muon
    accepts matrices only, not convolutions, and needs a second optimiser for all other parameters.
    """

    def __init__(
        self,
        conv_filters: Iterable[Tensor],
        others: Iterable[dict],
        muon_lr: float,
        lr: float,
        weight_decay: float,
        momentum: float = 0.6,
    ) -> None:
        conv_group = {"params": list(conv_filters), "lr": muon_lr, "momentum": momentum}
        super().__init__([conv_group, *others], lr, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        conv_group = self.param_groups[0]
        by_shape = defaultdict(list)  # layers of one shape are orthogonalised in one batch
        for weight in conv_group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            state.setdefault("step", torch.zeros(()))  # AdamW expects it in every state that it loads
            momentum_buffer = state.setdefault("momentum_buffer", torch.zeros_like(weight))
            momentum_buffer.mul_(conv_group["momentum"]).add_(weight.grad)
            nesterov_grad = weight.grad.add(momentum_buffer, alpha=conv_group["momentum"])
            by_shape[weight.shape].append((weight, nesterov_grad.flatten(1)))
            weight.grad = None  # so that AdamW skips it
        for shape, updates in by_shape.items():
            weights, nesterov_grads = zip(*updates, strict=True)
            for weight, step in zip(weights, newton_schulz(torch.stack(nesterov_grads)), strict=True):
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.sub_(step.view(shape) * conv_group["lr"])
        super().step()
        return loss


def newton_schulz(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return an approximation of the semi-orthogonal matrix nearest to `matrix` (M×N, or a batch K×M×N).

    `steps` quintic Newton–Schulz iterations bring singular values from 0.01…1 of the Frobenius norm to 0.7…1.2. Each
    iteration multiplies by a polynomial of the Gram matrix. The iterations therefore run on the Gram matrix, which is
    small and square, and their product is applied once.
    """
    a, b, c = _COEFFICIENTS
    x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    gram = x @ x.mT
    product = identity = torch.eye(gram.shape[-1], device=x.device, dtype=x.dtype)
    for _ in range(steps):
        factor = a * identity + b * gram + c * gram @ gram
        product, gram = factor @ product, factor @ gram @ factor
    x = product @ x
    return x.mT if tall else x

"""SGD whose learning rates may be tensors on the GPU."""

from collections.abc import Callable, Iterable

import torch


class SGD(torch.optim.SGD):
    """Optimise by stochastic gradient descent with Nesterov momentum (Sutskever et al. 2013), as torch.optim.SGD does.

    torch.optim.SGD copies a learning rate that is a tensor to the CPU at each step, so that no CUDA graph can capture
    it; here it stays where it is.
    """

    def __init__(self, params: Iterable[dict], lr: float, weight_decay: float, momentum: float = 0.9) -> None:
        super().__init__(params, lr, momentum, weight_decay=weight_decay, nesterov=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            grads = torch._foreach_add([weight.grad for weight in weights], weights, alpha=group["weight_decay"])
            buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, grads)
            torch._foreach_add_(grads, buffers, alpha=group["momentum"])
            torch._foreach_mul_(grads, group["lr"])
            torch._foreach_sub_(weights, grads)
        return loss

"""Training steps as CUDA graphs, which launch the hundreds of kernels of a step at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_WARM_UP = 3  # eager steps before the first capture: libraries initialise themselves in them


class GraphedStep:
    """Run `step(batch)`, backward pass and update included, as a CUDA graph, captured once for each batch length.

    A batch is a named tuple of tensors. `step` returns a dictionary of tensors, which the next call overwrites. It must
    not synchronise with the GPU. The learning rates of `optimizer` may change between steps. In eager mode, the kernels
    of a small network finish faster than Python launches them
    (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs).
    """

    def __init__(self, step: Callable[[Any], dict[str, Tensor]], optimizer: torch.optim.Optimizer) -> None:
        self.step, self.optimizer = step, optimizer
        for group in optimizer.param_groups:
            group["capturable"] = True
        self.warm_up = _WARM_UP
        self.lrs = torch.zeros(len(optimizer.param_groups), device="cuda")
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Any, dict[str, Tensor]]] = {}

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        if self.warm_up:
            self.warm_up -= 1
            return self._eager(batch)
        length = len(batch[0])
        if length not in self.graphs:
            self.graphs[length] = self._capture(batch)
        graph, inputs, outputs = self.graphs[length]
        for static, value in zip(inputs, batch, strict=True):
            static.copy_(value)
        self.lrs.copy_(torch.tensor([group["lr"] for group in self.optimizer.param_groups]), non_blocking=True)
        graph.replay()
        return outputs

    def _eager(self, batch: Any) -> dict[str, Tensor]:
        """Run the step eagerly on a side stream, as capture requires of the steps before it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self.step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return outputs

    def _capture(self, batch: Any) -> tuple[torch.cuda.CUDAGraph, Any, dict[str, Tensor]]:
        """Capture the step without running it; return the graph, its static inputs and its outputs."""
        inputs = type(batch)(*(part.clone(memory_format=torch.preserve_format) for part in batch))
        graph = torch.cuda.CUDAGraph()
        groups = self.optimizer.param_groups
        lrs = [group["lr"] for group in groups]
        try:
            for group, lr in zip(groups, self.lrs, strict=True):
                group["lr"] = lr  # a tensor, which every replay reads again
            with torch.cuda.graph(graph):
                outputs = self.step(inputs)
        finally:
            for group, lr in zip(groups, lrs, strict=True):
                group["lr"] = lr
        self.optimizer.zero_grad()
        return graph, inputs, outputs

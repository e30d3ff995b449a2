"""A training step as one piece of work for a GPU, which is given its hundreds of kernels at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_EAGER = 3  # steps before the first is recorded: libraries set themselves up in them


class RecordedStep:
    """Do `step(batch)`, gradients and update included, as a CUDA graph: recorded once for each length of a batch.

    A batch is a named tuple of tensors, `step` returns tensors by name; those returned here are overwritten by the
    next step. Nothing in `step` may wait for the GPU. The learning rates of `optimizer` may change from step to step.
    A small network's kernels are done sooner than Python can start them one by one
    (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs).
    """

    def __init__(self, step: Callable[[Any], dict[str, Tensor]], optimizer: torch.optim.Optimizer) -> None:
        self.step, self.optimizer = step, optimizer
        for group in optimizer.param_groups:
            group["capturable"] = True
        self.eager = _EAGER
        self.rates = torch.zeros(len(optimizer.param_groups), device="cuda")
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, Any, dict[str, Tensor]]] = {}

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        if self.eager:
            self.eager -= 1
            return self._apart(batch)
        length = len(batch[0])
        if length not in self.recorded:
            self.recorded[length] = self._record(batch)
        graph, inputs, outputs = self.recorded[length]
        for there, here in zip(inputs, batch, strict=True):
            there.copy_(here)
        self.rates.copy_(torch.tensor([group["lr"] for group in self.optimizer.param_groups]), non_blocking=True)
        graph.replay()
        return outputs

    def _apart(self, batch: Any) -> dict[str, Tensor]:
        """Do the step on a stream of its own, as the recorded ones will be."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self.step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return outputs

    def _record(self, batch: Any) -> tuple[torch.cuda.CUDAGraph, Any, dict[str, Tensor]]:
        """Record the step, without doing it."""
        inputs = type(batch)(*(part.clone(memory_format=torch.preserve_format) for part in batch))
        graph = torch.cuda.CUDAGraph()
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        try:
            for group, rate in zip(groups, self.rates, strict=True):
                group["lr"] = rate  # read by the graph wherever it is replayed
            with torch.cuda.graph(graph):
                outputs = self.step(inputs)
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
        self.optimizer.zero_grad()
        return graph, inputs, outputs

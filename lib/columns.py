"""Several small networks in one: each looks at an image on its own, and the answer is their mean."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Columns(nn.ModuleList):
    """Turn images into the features of each column: N×3×32×32 to N×columns×F."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([column(x) for column in self], 1)


class ColumnHeads(nn.ModuleList):
    """Turn the features of each column into its logits, and these into their mean: N×columns×F to N×2."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack([head(part) for head, part in zip(self, features.unbind(1), strict=True)]).mean(0)


def in_columns(n: int, column: Callable[[float], nn.Sequential]) -> Callable[[float], nn.Sequential]:
    """Return a builder of `n` networks side by side, each as `column` builds it, with its last layer for a head.

    Networks that begin differently err differently, so that their mean as a rule errs less (multi-column networks:
    Cireşan et al. 2012, arXiv 1202.2745).
    """

    def build(dropout: float) -> nn.Sequential:
        parts = [column(dropout) for _ in range(n)]
        return nn.Sequential(Columns(part[:-1] for part in parts), ColumnHeads(part[-1] for part in parts))

    return build


def columns_of(body: nn.Sequential) -> Sequence[nn.Sequential]:
    """Return the columns of `body`, each with its head for a last layer; a body without columns is one itself."""
    if not isinstance(body[0], Columns):
        return [body]
    return [nn.Sequential(*column, head) for column, head in zip(*body, strict=True)]

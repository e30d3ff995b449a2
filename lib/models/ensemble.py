"""Ensembles: several small networks in one, whose logits are averaged."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class EnsembleBackbones(nn.ModuleList):
    """Compute the features of every member: N×3×32×32 to N×members×F."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([backbone(x) for backbone in self], 1)


class EnsembleHeads(nn.ModuleList):
    """Compute the logits of every member from its features, and average them: N×members×F to N×2."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack([head(part) for head, part in zip(self, features.unbind(1), strict=True)]).mean(0)


def make_ensemble(n: int, member: Callable[[float], nn.Sequential]) -> Callable[[float], nn.Sequential]:
    """Return a builder of an ensemble of `n` networks, each built by `member` and ending in its own head.

    Members are initialised differently, so their errors differ in part, and averaging reduces them (multi-column
    networks: Cireşan et al. 2012, arXiv 1202.2745).
    """

    def build(dropout: float) -> nn.Sequential:
        members = [member(dropout) for _ in range(n)]
        return nn.Sequential(EnsembleBackbones(it[:-1] for it in members), EnsembleHeads(it[-1] for it in members))

    return build


def members_of(backbone: nn.Sequential) -> Sequence[nn.Sequential]:
    """Return the members of `backbone`, each ending in its head; a network that is no ensemble is its only member."""
    if not isinstance(backbone[0], EnsembleBackbones):
        return [backbone]
    return [nn.Sequential(*member, head) for member, head in zip(*backbone, strict=True)]

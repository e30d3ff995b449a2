"""CutMix: a part of a training image comes from another, and so much of what is to be learnt of it."""

import torch

from lib.batches import TrainBatch
from lib.decode import SIDE


def cutmix(batch: TrainBatch, share: float, generator: torch.Generator) -> TrainBatch:
    """Return `batch` with a box of another of its images in about the share `share` of the images.

    A box has any area, up to all of the image, and its centre anywhere; what would lie outside is lost (Yun et al.
    2019, arXiv 1905.04899). Targets and weights of both images count by their parts. Drawn on the CPU from
    `generator`, which the order of the images and their variations do not depend on.
    """
    n, device = len(batch.images), batch.images.device
    mixed, area, *centre = torch.rand(4, n, generator=generator)
    half = SIDE * area.sqrt() / 2 * (mixed < share)
    half, *centre = (part.to(device, non_blocking=True)[:, None] for part in (half, *centre))
    pixel = torch.arange(SIDE, device=device) + 0.5
    rows, columns = ((pixel - SIDE * middle).abs() < half for middle in centre)
    box = rows[:, :, None] & columns[:, None, :]
    images = torch.where(box[:, None], batch.images.roll(1, 0), batch.images)
    rest = box.float().mean((1, 2))
    own, other = (1 - rest) * batch.weights, rest * batch.weights.roll(1)
    weights = own + other
    part = (own / weights)[:, None, None]
    return batch._replace(
        images=images.contiguous(memory_format=torch.channels_last),
        targets=part * batch.targets + (1 - part) * batch.targets.roll(1, 0),
        weights=weights,
        whole=batch.whole & (rest == 0),
    )

"""CutMix: replace a box of a training image by that of another image, and mix their targets in proportion."""

import torch

from lib.data.batches import TrainBatch


def cutmix(batch: TrainBatch, prob: float, generator: torch.Generator) -> TrainBatch:
    """Return `batch` with a box of the previous image pasted into each image, with probability `prob`.

    The area of the box is uniform, up to the whole image, and its centre uniform over the image; what lies outside is
    clipped (Yun et al. 2019, arXiv 1905.04899). Targets and weights of both images are mixed by area. Parameters are
    drawn on the CPU from `generator`, which is not the one of the order and the augmentation of the images.
    """
    n, device, size = len(batch.images), batch.images.device, batch.images.shape[-1]
    chance, area, *centre = torch.rand(4, n, generator=generator)
    half = size * area.sqrt() / 2 * (chance < prob)
    half, *centre = (part.to(device, non_blocking=True)[:, None] for part in (half, *centre))
    pixel = torch.arange(size, device=device) + 0.5
    inside_y, inside_x = ((pixel - size * middle).abs() < half for middle in centre)
    box = inside_y[:, :, None] & inside_x[:, None, :]
    images = torch.where(box[:, None], batch.images.roll(1, 0), batch.images)
    replaced = box.float().mean((1, 2))
    own, other = (1 - replaced) * batch.weights, replaced * batch.weights.roll(1)
    weights = own + other
    part = (own / weights)[:, None, None]
    return batch._replace(
        images=images.contiguous(memory_format=torch.channels_last),
        targets=part * batch.targets + (1 - part) * batch.targets.roll(1, 0),
        weights=weights,
        unmixed=batch.unmixed & (replaced == 0),
    )

"""Export to ONNX: one self-contained graph from uint8 images to logits."""

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from lib.core.errors import InputError
from lib.core.files import atomic_file
from lib.core.rows import equal_pixels
from lib.inference.predictor import INPUT, OUTPUT, open_onnx
from lib.models.networks import Network

TOLERANCE = 1e-3


def export_onnx(network: Network, path: Path) -> None:
    """Write `network` to `path`, and compare ONNX Runtime's logits with PyTorch's.

    The file has one input, `images` (uint8, N×3×S×S, RGB, S the network's image size), and one output, `logits`
    (float32, N×2: FAKE, REAL). The graph contains the normalisation and, if the network has it, the flip TTA. Raises
    InputError when the logits of random images (64 of 32×32, or as many pixels) differ by more than 1e-3.
    """
    network = network.cpu().eval()
    deployed = _Deployed(network).eval()
    size = network.image_size
    shape = max(2, equal_pixels(64, size)), 3, size, size
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with quietly(), torch.no_grad():
        program = torch.onnx.export(
            deployed, (images,), input_names=[INPUT], output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("n")}}, external_data=False, dynamo=True,
        )  # fmt: skip
    ClearMetadataAndDocStringPass()(program.model)  # every node holds paths of this machine
    with atomic_file(path) as partial:
        program.save(partial)
        logits = open_onnx(partial).run([OUTPUT], {INPUT: images.numpy()})[0]
        with torch.no_grad():
            difference = float(np.abs(logits - network(images).numpy()).max())
        if not difference <= TOLERANCE:
            raise InputError(f"{path}: ONNX Runtime's logits are up to {difference:.2g} from PyTorch's: report this")


class _Deployed(nn.Module):
    """Compute what a network computes in evaluation, in a smaller graph: flip TTA is one batch through one backbone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for parent in [*self.network.modules()]:
            for name, layer in parent.named_children():
                if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size == 1:
                    setattr(parent, name, _Mean())  # exported, it would be a dozen nodes

    def forward(self, images: Tensor) -> Tensor:
        x = self.network.normalise(images)
        if not self.network.hflip_tta:
            return self.network.backbone(x)
        return self.network.backbone(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1)).mean(0)


class _Mean(nn.Module):
    """Average over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


@contextlib.contextmanager
def quietly():
    """Silence the output and the warnings of exporters."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)

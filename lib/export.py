"""Write a network as ONNX, which any language can run: uint8 images in, logits out, everything inside."""

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

from lib.decode import SIDE
from lib.errors import InputError
from lib.files import whole_file
from lib.model import INPUT, OUTPUT, open_onnx
from lib.networks import Network

TOLERANCE = 1e-3


def export_onnx(network: Network, path: Path) -> None:
    """Write `network` to `path` and check that ONNX Runtime computes from it what PyTorch computes.

    The file has one input, `images` (uint8, N×3×32×32, RGB), and one output, `logits` (float32, N×2: FAKE,
    REAL). Normalisation and the mirrored view, if the network has one, lie inside. Raises InputError when the
    logits of 64 random images differ by more than 1e-3.
    """
    network = network.cpu().eval()
    deployed = _Deployed(network).eval()
    images = torch.randint(0, 256, (64, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with quietly(), torch.no_grad():
        program = torch.onnx.export(
            deployed, (images,), input_names=[INPUT], output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("n")}}, external_data=False, dynamo=True,
        )  # fmt: skip
    ClearMetadataAndDocStringPass()(program.model)  # every node would tell the folders of this machine
    with whole_file(path) as partial:
        program.save(partial)
        logits = open_onnx(partial).run([OUTPUT], {INPUT: images.numpy()})[0]
        with torch.no_grad():
            apart = float(np.abs(logits - network(images).numpy()).max())
        if not apart <= TOLERANCE:
            raise InputError(f"{path}: ONNX Runtime's logits are up to {apart:.2g} from PyTorch's: report this")


class _Deployed(nn.Module):
    """Compute what a network computes in evaluation, in a smaller graph: both views are one batch of one body."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for parent in [*self.network.modules()]:
            for name, layer in parent.named_children():
                if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size == 1:
                    setattr(parent, name, _Mean())  # the exporter would write a dozen nodes for it

    def forward(self, images: Tensor) -> Tensor:
        x = self.network.normalise(images)
        if not self.network.mirror:
            return self.network.body(x)
        return self.network.body(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1)).mean(0)


class _Mean(nn.Module):
    """Take the mean over all places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


@contextlib.contextmanager
def quietly():
    """Silence what exporters print and warn of on their way."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)

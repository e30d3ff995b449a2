"""Static int8 quantisation of an exported network, calibrated on training images."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from lib.core.errors import InputError
from lib.core.files import atomic_file
from lib.core.rows import equal_pixels
from lib.export.onnx_file import quietly
from lib.inference.predictor import INPUT, open_onnx

METHODS = ("MinMax", "Entropy", "Percentile")
_BATCH = 128  # images of 32×32


class _Images(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        batch = equal_pixels(_BATCH, images.shape[-1])
        self.batches: Iterator[np.ndarray] = iter(np.array_split(images, -(-len(images) // batch)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}


def quantize(
    source: Path, target: Path, images: np.ndarray, method: str = "MinMax", per_channel: bool = True, kept: int = 2
) -> None:
    """Write to `target` the network in `source` (ONNX) with convolutions quantised to int8.

    `images` (uint8 N×3×S×S, of the training split) calibrate the ranges of activations by `method`, one of METHODS;
    filters have a scale per channel, or one per tensor. The first `kept` convolutions of each ensemble member stay in
    float: in their inputs, smooth patterns have 100,000 times the variance of the finest ones, which separate the
    classes, and 8 bits round those away. 1×1 convolutions stay in float too, as they are too small to gain. Input and
    output stay as they are. Raises InputError for an unknown method, and for a network without a convolution to
    quantise.
    """
    if method not in METHODS:
        raise InputError(f"the calibration method is {method!r}: choose one of {', '.join(METHODS)}")
    with tempfile.TemporaryDirectory() as folder, atomic_file(target) as partial, quietly():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)  # folds batch normalisations
        if not (selected := _convolutions(prepared, kept)):
            raise InputError(f"{source} has no convolution to quantise: serve it as it is")
        quantize_static(
            prepared, partial, _Images(images), quant_format=QuantFormat.QDQ, per_channel=per_channel,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method], nodes_to_quantize=selected,
        )  # fmt: skip
        open_onnx(partial)


def _convolutions(path: Path, kept: int) -> list[str]:
    """Return the names of the convolutions larger than 1×1 that have `kept` such convolutions before them."""
    graph = onnx.load(path).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    depth: dict[str, int] = {}  # convolutions from the image to a value
    selected = []
    for node in graph.node:  # nodes are sorted topologically
        before = max((depth.get(name, 0) for name in node.input), default=0)
        wide = node.op_type == "Conv" and max(shapes[node.input[1]][2:]) > 1
        if wide and before >= kept:
            selected.append(node.name)
        depth.update(dict.fromkeys(node.output, before + wide))
    return selected

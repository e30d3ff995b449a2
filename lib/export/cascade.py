"""Cascades in one ONNX file: a cheap first stage classifies most images, and only the rest reaches the second stage."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.compose import add_prefix
from scipy.special import logit

from lib.core.errors import InputError
from lib.core.files import atomic_file
from lib.core.rows import ImageRows
from lib.evaluation.calibration import at_temperature, fit_temperature
from lib.evaluation.selective import selective_threshold
from lib.export.onnx_file import export_onnx
from lib.export.quantize import quantize
from lib.export.selection import in_chunks, table_of
from lib.export.variants import onnx_variant
from lib.inference.predictor import INPUT, MARGIN, OUTPUT, open_onnx
from lib.models.networks import Network

Labelled = tuple[ImageRows, np.ndarray]  # images (uint8 N×3×S×S) and labels (N)


def student_first(
    student: Network, calibration: np.ndarray, val: Labelled, network: Path, target: Path, target_risk: float
) -> None:
    """Write to `target` a cascade that runs `network` (ONNX) only on images where `student` is not confident.

    The student is quantised to int8, calibrated on the images `calibration` (uint8 N×3×S×S, of the training split).
    The images that it classifies alone have at most the share `target_risk` of errors, guaranteed by
    `lib.evaluation.selective.selective_threshold` on the validation images and labels `val`. Its logits are scaled to
    the temperature of those of `network`. Raises InputError where no threshold gives the guarantee.
    """
    with tempfile.TemporaryDirectory() as folder:
        first = _to_int8(student, calibration, Path(folder))
        margin, temperature = _margin(first, val, target_risk)
        scale = fit_temperature(_predictions(network, val)) / temperature
        join(onnx.load(first), onnx.load(network), margin, target, scale)


def early_exit(
    first: Path, second: Network | None, target: Path, calibration: np.ndarray, val: Labelled, target_risk: float
) -> None:
    """Write to `target` a network that exits after `first` (ONNX) where that is confident.

    For all other images it averages the logits of `first` with those of `second`, quantised to int8, or without
    `second` with those of `first` on the flipped image. `calibration`, `val` and `target_risk` are as in
    `student_first`.
    """
    network = onnx.load(first)
    with tempfile.TemporaryDirectory() as folder:
        other = onnx.load(_to_int8(second, calibration, Path(folder))) if second else flipped(network)
    join(network, other, _margin(first, val, target_risk)[0], target, mean=True)


def _to_int8(network: Network, calibration: np.ndarray, folder: Path) -> Path:
    """Write a network in int8 to `folder`."""
    plain, int8 = folder / "float32.onnx", folder / "int8.onnx"
    export_onnx(network, plain)
    quantize(plain, int8, calibration)
    return int8


def _margin(file: Path, val: Labelled, target_risk: float) -> tuple[float, float]:
    """Return the margin between the logits from which on a prediction is confident, and the fitted temperature."""
    table = _predictions(file, val)
    temperature = fit_temperature(table)
    threshold = selective_threshold(at_temperature(table, temperature), target_risk)
    if threshold is None:
        raise InputError(
            f"{file.stem} has no confidence threshold with a risk of at most {target_risk:.2%}: "
            "train it longer, or allow more"
        )
    return temperature * float(logit(threshold)), temperature


def _predictions(file: Path, val: Labelled) -> pd.DataFrame:
    images, labels = val
    return table_of(in_chunks(onnx_variant(file, 0).predict_logits, images), labels)


def flipped(network: ModelProto) -> ModelProto:
    """Return the network with a horizontal flip of its input images in front."""
    copy = ModelProto()
    copy.CopyFrom(network)
    for node in copy.graph.node:
        node.input[:] = ["flipped" if name == INPUT else name for name in node.input]
    backwards = {"width": 3, "back": -1, "end": -_size(network) - 1}
    copy.graph.initializer.extend(numpy_helper.from_array(np.array([at]), name) for name, at in backwards.items())
    copy.graph.node.insert(0, helper.make_node("Slice", [INPUT, "back", "end", "width", "back"], ["flipped"]))
    return copy


def _size(network: ModelProto) -> int:
    """Return the side of the images that a network takes, in pixels."""
    images = next(it for it in network.graph.input if it.name == INPUT)
    return images.type.tensor_type.shape.dim[-1].dim_value


def join(
    first: ModelProto, second: ModelProto, margin: float, target: Path, scale: float = 1.0, mean: bool = False
) -> None:
    """Write to `target` one graph: the logits of `first` times `scale`, and those of `second` where they are close.

    Logits of `first` are close when they differ by less than `margin`. The graph takes another margin as an optional
    input; an infinite one gives the logits of `second` for all images. With `mean` the close ones are replaced by the
    mean of both. Inputs and outputs are those that `open_onnx` checks. Equal weights of both are stored once.
    """
    stages = add_prefix(first, "first_"), add_prefix(second, "second_")
    constants = {
        "difference": np.array([[1], [-1]], np.float32),
        MARGIN: np.array(margin, np.float32),
        "scale": np.array(scale, np.float32),
        "last": np.array([1], np.int64),
    }
    averaged = [
        helper.make_node("GatherND", ["scaled", "indices"], ["before"]),
        helper.make_node("Mean", ["before", f"second_{OUTPUT}"], ["mean"]),
    ]
    nodes = [
        helper.make_node("Identity", [INPUT], [f"first_{INPUT}"]),
        *stages[0].graph.node,
        helper.make_node("MatMul", [f"first_{OUTPUT}", "difference"], ["signed"]),
        helper.make_node("Abs", ["signed"], ["distance"]),
        helper.make_node("Less", ["distance", MARGIN], ["is_close"]),
        helper.make_node("Squeeze", ["is_close", "last"], ["close"]),
        helper.make_node("NonZero", ["close"], ["found"]),
        helper.make_node("Transpose", ["found"], ["indices"]),
        helper.make_node("GatherND", [INPUT, "indices"], [f"second_{INPUT}"]),
        *stages[1].graph.node,
        helper.make_node("Mul", [f"first_{OUTPUT}", "scale"], ["scaled"]),
        *(averaged if mean else []),
        helper.make_node("ScatterND", ["scaled", "indices", "mean" if mean else f"second_{OUTPUT}"], [OUTPUT]),
    ]
    values = [
        *stages[0].graph.initializer, *stages[1].graph.initializer,
        *(numpy_helper.from_array(value, name) for name, value in constants.items()),
    ]  # fmt: skip
    margins = [it for stage in stages for it in stage.graph.input if it.name.endswith(MARGIN)]
    graph = helper.make_graph(
        nodes,
        "cascade",
        [
            helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", 3, *[_size(first)] * 2]),
            helper.make_tensor_value_info(MARGIN, TensorProto.FLOAT, []),  # optional, as it has an initial value
            *margins,
        ],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 2])],
        _deduplicated(nodes, values),
    )
    opsets = {it.domain: it.version for stage in stages for it in stage.opset_import}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    with atomic_file(target) as partial:
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=stages[0].ir_version), partial)
        open_onnx(partial)


def _deduplicated(nodes: list[NodeProto], values: list[TensorProto]) -> list[TensorProto]:
    """Return the values without those that equal another one, which the nodes then read instead."""
    kept: dict[bytes, TensorProto] = {}
    names = {}
    for value in values:
        name, value.name = value.name, ""
        same = kept.setdefault(name.encode() if name.endswith(MARGIN) else value.SerializeToString(), value)
        value.name = name
        names[name] = same.name
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
    return list(kept.values())

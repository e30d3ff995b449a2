"""Several looks in one file: what is easy is answered by less work, and only the rest goes on to more."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.compose import add_prefix
from scipy.special import logit

from lib.calibration import at_temperature, fit_temperature
from lib.choice import in_parts, table_of
from lib.decode import SIDE
from lib.errors import InputError
from lib.export import export_onnx
from lib.files import whole_file
from lib.model import INPUT, MARGIN, OUTPUT, open_onnx
from lib.networks import Network
from lib.quantise import quantise
from lib.selective import unsure_below
from lib.variants import onnx_variant

Labelled = tuple[np.ndarray, np.ndarray]  # images (uint8 N×3×32×32) and labels (N)


def small_first(
    small: Network, calibration: np.ndarray, val: Labelled, large: Path, target: Path, error: float
) -> None:
    """Write to `target` a network that asks `large` (ONNX) only about images of which `small` is not sure.

    `small` gets 8-bit integers, calibrated on the images `calibration` (uint8 N×3×32×32, of the training split). It
    answers alone where it errs in at most the share `error`: `lib.selective.unsure_below` finds where, on the
    validation images and labels `val`. Its logits are scaled so that they mean what those of `large` do. Raises
    InputError where no such place can be shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        first = _integers(small, calibration, Path(folder))
        margin, temperature = _sure(first, val, error)
        scale = fit_temperature(_answers(large, val)) / temperature
        join(onnx.load(first), onnx.load(large), margin, target, scale)


def second_look(
    first: Path, second: Network | None, target: Path, calibration: np.ndarray, val: Labelled, error: float
) -> None:
    """Write to `target` a network that looks at an image by `first` (ONNX) and, where that is unsure, looks again.

    It looks again by `second`, which gets 8-bit integers, or without one by `first` at the mirror image, and answers
    with the mean of both logits. `calibration`, `val` and `error` are as in `small_first`.
    """
    network = onnx.load(first)
    with tempfile.TemporaryDirectory() as folder:
        again = onnx.load(_integers(second, calibration, Path(folder))) if second else mirrored(network)
    join(network, again, _sure(first, val, error)[0], target, mean=True)


def _integers(network: Network, calibration: np.ndarray, folder: Path) -> Path:
    """Write a network with 8-bit integers to `folder`."""
    plain, integers = folder / "plain.onnx", folder / "integers.onnx"
    export_onnx(network, plain)
    quantise(plain, integers, calibration)
    return integers


def _sure(file: Path, val: Labelled, error: float) -> tuple[float, float]:
    """Return how far apart the logits of a sure answer are, and the temperature of all answers."""
    table = _answers(file, val)
    temperature = fit_temperature(table)
    sure = unsure_below(at_temperature(table, temperature), error)
    if sure is None:
        raise InputError(f"{file.stem} is nowhere shown to err in at most {error:.2%}: train it longer, or allow more")
    return temperature * float(logit(sure)), temperature


def _answers(file: Path, val: Labelled) -> pd.DataFrame:
    images, labels = val
    return table_of(in_parts(onnx_variant(file, 0).answer, images), labels)


def mirrored(network: ModelProto) -> ModelProto:
    """Return the network as it sees mirror images."""
    turned = ModelProto()
    turned.CopyFrom(network)
    for node in turned.graph.node:
        node.input[:] = ["turned" if name == INPUT else name for name in node.input]
    backwards = {"width": 3, "back": -1, "end": -SIDE - 1}
    turned.graph.initializer.extend(numpy_helper.from_array(np.array([at]), name) for name, at in backwards.items())
    turned.graph.node.insert(0, helper.make_node("Slice", [INPUT, "back", "end", "width", "back"], ["turned"]))
    return turned


def join(
    small: ModelProto, large: ModelProto, margin: float, target: Path, scale: float = 1.0, mean: bool = False
) -> None:
    """Write to `target` one graph: the logits of `small` times `scale`, and those of `large` where they are close.

    Close are logits of `small` that lie less than `margin` apart; who runs the graph may give another margin, and gets
    the logits of `large` alone with an infinite one. With `mean` it is not the logits of `large` there, but the mean of
    both. All keep the project's contract. Weights that both have are written once.
    """
    first, second = add_prefix(small, "small_"), add_prefix(large, "large_")
    constants = {
        "difference": np.array([[1], [-1]], np.float32),
        MARGIN: np.array(margin, np.float32),
        "scale": np.array(scale, np.float32),
        "last": np.array([1], np.int64),
    }
    both = [
        helper.make_node("GatherND", ["scaled", "rows"], ["before"]),
        helper.make_node("Mean", ["before", f"large_{OUTPUT}"], ["mean"]),
    ]
    nodes = [
        helper.make_node("Identity", [INPUT], [f"small_{INPUT}"]),
        *first.graph.node,
        helper.make_node("MatMul", [f"small_{OUTPUT}", "difference"], ["apart"]),
        helper.make_node("Abs", ["apart"], ["distance"]),
        helper.make_node("Less", ["distance", MARGIN], ["is_close"]),
        helper.make_node("Squeeze", ["is_close", "last"], ["close"]),
        helper.make_node("NonZero", ["close"], ["found"]),
        helper.make_node("Transpose", ["found"], ["rows"]),
        helper.make_node("GatherND", [INPUT, "rows"], [f"large_{INPUT}"]),
        *second.graph.node,
        helper.make_node("Mul", [f"small_{OUTPUT}", "scale"], ["scaled"]),
        *(both if mean else []),
        helper.make_node("ScatterND", ["scaled", "rows", "mean" if mean else f"large_{OUTPUT}"], [OUTPUT]),
    ]
    values = [
        *first.graph.initializer, *second.graph.initializer,
        *(numpy_helper.from_array(value, name) for name, value in constants.items()),
    ]  # fmt: skip
    margins = [it for it in (*first.graph.input, *second.graph.input) if it.name.endswith(MARGIN)]
    graph = helper.make_graph(
        nodes,
        "cascade",
        [
            helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", 3, SIDE, SIDE]),
            helper.make_tensor_value_info(MARGIN, TensorProto.FLOAT, []),  # has a value already, so it is optional
            *margins,
        ],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 2])],
        _once(nodes, values),
    )
    opsets = {it.domain: it.version for model in (first, second) for it in model.opset_import}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    with whole_file(target) as partial:
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=first.ir_version), partial)
        open_onnx(partial)


def _once(nodes: list[NodeProto], values: list[TensorProto]) -> list[TensorProto]:
    """Return the values without those that are equal to another, which the nodes read instead."""
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

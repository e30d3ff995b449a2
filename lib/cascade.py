"""Two networks in one file: a small one answers where it is sure, and a large one judges what is left."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
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


def cascade(
    small: Network, calibration: np.ndarray, val: tuple[np.ndarray, np.ndarray], error: float, large: Path, target: Path
) -> None:
    """Write to `target` a network that asks `large` (ONNX) only about images of which `small` is not sure.

    `small` gets 8-bit integers, calibrated on the images `calibration` (uint8 N×3×32×32, of the training split). It
    answers alone where it errs in at most the share `error`: `lib.selective.unsure_below` finds where, on the
    validation images and labels `val`. Its logits are scaled so that they mean what those of `large` do. Raises
    InputError where no such place can be shown.
    """
    images, labels = val
    with tempfile.TemporaryDirectory() as folder, whole_file(target) as partial:
        plain, integers = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        export_onnx(small, plain)
        quantise(plain, integers, calibration)
        tables = [table_of(in_parts(onnx_variant(file, 0).answer, images), labels) for file in (integers, large)]
        temperatures = [fit_temperature(table) for table in tables]
        sure = unsure_below(at_temperature(tables[0], temperatures[0]), error)
        if sure is None:
            raise InputError(f"the small network is nowhere shown to err in at most {error:.2%}: train it longer")
        margin = temperatures[0] * float(logit(sure))
        join(integers, large, margin, temperatures[1] / temperatures[0], partial)
        open_onnx(partial)


def join(small: Path, large: Path, margin: float, scale: float, target: Path) -> None:
    """Write to `target` one graph: the logits of `small` times `scale`, and those of `large` where they are close.

    Close are logits of `small` that lie less than `margin` apart; who runs the graph may give another margin, and gets
    the logits of `large` alone with an infinite one. All are ONNX files of the project's contract.
    """
    first, second = (add_prefix(onnx.load(file), prefix) for file, prefix in ((small, "small_"), (large, "large_")))
    constants = {
        "difference": np.array([[1], [-1]], np.float32),
        MARGIN: np.array(margin, np.float32),
        "scale": np.array(scale, np.float32),
        "last": np.array([1], np.int64),
    }
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
        helper.make_node("ScatterND", ["scaled", "rows", f"large_{OUTPUT}"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "cascade",
        [
            helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", 3, SIDE, SIDE]),
            helper.make_tensor_value_info(MARGIN, TensorProto.FLOAT, []),  # has a value already, so it is optional
        ],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 2])],
        [*first.graph.initializer, *second.graph.initializer]
        + [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = {it.domain: it.version for model in (first, second) for it in model.opset_import}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=first.ir_version), target)

"""Variants of one network: ONNX files for ONNX Runtime, and execution modes of PyTorch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from lib.core.errors import InputError
from lib.core.files import atomic_file
from lib.export.onnx_file import export_onnx, quietly
from lib.export.prune import prune_channels, prune_weights
from lib.export.quantize import quantize
from lib.inference.predictor import INPUT, OUTPUT, open_onnx
from lib.models.networks import Network

PredictLogits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Variant:
    """Hold one variant: `predict_logits` takes uint8 N×3×S×S and returns float32 N×2.

    `file` is what a client needs; only an ONNX file can be served.
    """

    predict_logits: PredictLogits
    file: Path

    @property
    def servable(self) -> bool:
        return self.file.suffix == ".onnx"


Variants = tuple[dict[str, Variant], dict[str, str]]  # by name; and of each unavailable one the reason


def onnx_variants(
    network: Network,
    images: np.ndarray,
    prune_ratio: float,
    folder: Path,
    threads: int,
    early_exit: Callable[[Path, Network | None, Path], None] | None = None,
    student_first: Mapping[float, Callable[[Path, Path], None]] | None = None,
) -> Variants:
    """Write the network's ONNX variants to `folder` and open them; the plain export comes first.

    `images` (uint8 N×3×S×S, of the training split) calibrate int8 and the batch normalisation of a pruned network;
    `prune_ratio` is the share of weights, or of channels, that are pruned. `early_exit` and `student_first`, if
    given, write cascades (lib.export.cascade) from the ONNX file in their first argument to the one in their last; the
    latter by target risk. A network with flip TTA, or an ensemble of two, also has variants with one of its two
    passes, and one that exits early after it.
    """
    plain = folder / "float32.onnx"
    single, first, second = _single_pass(network)
    exports: dict[str, Callable[[Path], Any]] = {
        "float32": partial(export_onnx, network),
        "float32, optimised offline": partial(_optimise_offline, plain),
        "int8": partial(quantize, plain, images=images),
        "int8, Entropy": partial(quantize, plain, images=images, method="Entropy"),
        "int8, Percentile": partial(quantize, plain, images=images, method="Percentile"),
        "int8, per-tensor": partial(quantize, plain, images=images, per_channel=False),
        "int8, second layer too": partial(quantize, plain, images=images, kept=1),
        "int8, first two layers too": partial(quantize, plain, images=images, kept=0),
        f"float32, {prune_ratio:.0%} of weights pruned": lambda file: export_onnx(
            prune_weights(network, prune_ratio), file
        ),
        f"float32, {prune_ratio:.0%} of channels pruned": lambda file: export_onnx(
            prune_channels(network, prune_ratio, torch.from_numpy(images)), file
        ),
    }
    last_stage = folder / "int8.onnx"
    if single:
        exports[f"float32, {single}"] = partial(export_onnx, first)
        exports[f"int8, {single}"] = partial(quantize, folder / _file_name(f"float32, {single}"), images=images)
    if single and early_exit:
        exports["int8, early exit"] = partial(early_exit, folder / _file_name(f"int8, {single}"), second)
        last_stage = folder / _file_name("int8, early exit")
    for target_risk, cascade in (student_first or {}).items():
        exports[f"int8, student first, {target_risk:.2%}"] = partial(cascade, last_stage)
    variants, unavailable = {}, {}
    for name, export in exports.items():
        file = folder / _file_name(name)
        try:
            export(file)
        except InputError as error:
            unavailable[name] = str(error)
            continue
        except FileNotFoundError as error:  # a variant that it is made of
            unavailable[name] = f"needs {Path(error.filename).name}, which is not available"
            continue
        variants[name] = onnx_variant(file, threads)
    return variants, unavailable


def _file_name(variant: str) -> str:
    return f"{variant.replace(', ', '-').replace(' ', '-').replace('%', '')}.onnx"


def _single_pass(network: Network) -> tuple[str, Network, Network | None]:
    """Return the name of one of a network's two passes (else ""), that pass as a network, and a second member."""
    if network.hflip_tta:
        return "without TTA", network.with_hflip_tta(False), None
    if len(members := network.members()) == 2:
        return "one member", *members
    return "", network, None


def onnx_variant(file: Path, threads: int) -> Variant:
    """Open an ONNX file as a variant."""
    return Variant(partial(_run, open_onnx(file, threads)), file)


def torch_variants(network: Network, file: Path, compiled: bool) -> Variants:
    """Return PyTorch's execution modes for the network whose weights are in `file`.

    Eager, in channels-last memory, this under bfloat16 autocast, and, where `compiled`, compiled by inductor, which
    takes a minute or two and needs a C++ compiler.
    """
    network = network.eval().to(memory_format=torch.channels_last)

    def bfloat16(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(images)

    modes = {
        "PyTorch, eager": (network, torch.contiguous_format),
        "PyTorch, channels last": (network, torch.channels_last),
        "PyTorch, channels last, bfloat16": (bfloat16, torch.channels_last),
    }
    if compiled:
        modes["PyTorch, channels last, compiled"] = torch.compile(network, dynamic=True), torch.channels_last
    variants, unavailable = {}, {}
    for name, (call, memory) in modes.items():
        predict = partial(_call, call, memory)
        try:
            with quietly():  # inductor reports that it found no GPU
                for size in (1, 2):  # it compiles once for 1, once for more
                    predict(np.zeros((size, 3, *[network.image_size] * 2), np.uint8))
            variants[name] = Variant(predict, file)
        except Exception as error:  # whatever inductor, its compiler and the system raise
            unavailable[name] = f"does not run here ({type(error).__name__}): it needs a C++ compiler"
    return variants, unavailable


def _run(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    return session.run([OUTPUT], {INPUT: images})[0]


def _call(call: Callable[[torch.Tensor], torch.Tensor], memory: torch.memory_format, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return call(torch.from_numpy(images).contiguous(memory_format=memory)).float().numpy()


def _optimise_offline(source: Path, target: Path) -> None:
    """Write the graph as ONNX Runtime optimises it on opening, without optimisations for this processor only."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with atomic_file(target) as written:
        options.optimized_model_filepath = str(written)
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

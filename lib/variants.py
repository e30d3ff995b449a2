"""Variants of one network: other files for ONNX Runtime, and other ways for PyTorch to run it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from lib.decode import SIDE
from lib.errors import InputError
from lib.export import export_onnx, quietly
from lib.files import whole_file
from lib.model import INPUT, OUTPUT, open_onnx
from lib.networks import Network
from lib.prune import prune_channels, prune_weights
from lib.quantise import quantise

Answer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Variant:
    """Hold one way to answer: `answer` takes uint8 N×3×32×32 and gives logits, float32 N×2.

    `file` is what a client would need; only an ONNX file, which keeps the project's contract, can be served.
    """

    answer: Answer
    file: Path

    @property
    def servable(self) -> bool:
        return self.file.suffix == ".onnx"


Built = tuple[dict[str, Variant], dict[str, str]]  # by name; and of what cannot be had, the reason


def onnx_variants(
    network: Network,
    images: np.ndarray,
    pruned: float,
    folder: Path,
    threads: int,
    second_look: Callable[[Path, Network | None, Path], None] | None = None,
    small_first: Mapping[float, Callable[[Path, Path], None]] | None = None,
) -> Built:
    """Write the network's ONNX variants to `folder` and open them; the plain export comes first.

    `images` (uint8 N×3×32×32, of the training split) calibrate 8-bit integers and renew the statistics of a pruned
    network; `pruned` is the share of weights, or of channels, that pruning takes. `second_look` and `small_first`, if
    given, make of the ONNX file in their first argument the one in their last (lib.cascade); the latter by error. A
    network of two views or two columns also has variants that look once, and then again only where they must.
    """
    plain = folder / "float32.onnx"
    look, first, second = _looks(network)
    exports: dict[str, Callable[[Path], Any]] = {
        "float32": partial(export_onnx, network),
        "float32, optimised offline": partial(_optimise_offline, plain),
        "int8": partial(quantise, plain, images=images),
        "int8, Entropy": partial(quantise, plain, images=images, method="Entropy"),
        "int8, Percentile": partial(quantise, plain, images=images, method="Percentile"),
        "int8, one scale a layer": partial(quantise, plain, images=images, per_channel=False),
        "int8, second layer too": partial(quantise, plain, images=images, kept=1),
        "int8, first two layers too": partial(quantise, plain, images=images, kept=0),
        f"float32, {pruned:.0%} of weights zero": lambda file: export_onnx(prune_weights(network, pruned), file),
        f"float32, {pruned:.0%} of channels cut": lambda file: export_onnx(
            prune_channels(network, pruned, torch.from_numpy(images)), file
        ),
    }
    large = folder / "int8.onnx"
    if look:
        exports[f"float32, one {look}"] = partial(export_onnx, first)
        exports[f"int8, one {look}"] = partial(quantise, folder / f"float32-one-{look}.onnx", images=images)
    if look and second_look:
        exports[f"int8, second {look} if unsure"] = partial(second_look, folder / f"int8-one-{look}.onnx", second)
        large = folder / f"int8-second-{look}-if-unsure.onnx"
    for error, put_first in (small_first or {}).items():
        exports[f"int8, small network first, {error:.2%}"] = partial(put_first, large)
    variants, unavailable = {}, {}
    for name, export in exports.items():
        file = folder / f"{name.replace(', ', '-').replace(' ', '-').replace('%', '')}.onnx"
        try:
            export(file)
        except InputError as error:
            unavailable[name] = str(error)
            continue
        variants[name] = onnx_variant(file, threads)
    return variants, unavailable


def _looks(network: Network) -> tuple[str, Network, Network | None]:
    """Name what a network has two of, a "view" or a "column" (else ""); return it with one, and the second column."""
    if network.mirror:
        return "view", network.with_mirror(False), None
    if len(columns := network.columns()) == 2:
        return "column", *columns
    return "", network, None


def onnx_variant(file: Path, threads: int) -> Variant:
    """Open an ONNX file as a variant."""
    return Variant(partial(_run, open_onnx(file, threads)), file)


def torch_variants(network: Network, file: Path) -> Built:
    """Return PyTorch's ways to run the network whose weights lie in `file`.

    Eager, in channels-last memory, this under bfloat16 autocast, and compiled by inductor, which needs a C++ compiler.
    """
    network = network.eval().to(memory_format=torch.channels_last)

    def bfloat16(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(images)

    ways = {
        "PyTorch, eager": (network, torch.contiguous_format),
        "PyTorch, channels last": (network, torch.channels_last),
        "PyTorch, channels last, bfloat16": (bfloat16, torch.channels_last),
        "PyTorch, channels last, compiled": (torch.compile(network, dynamic=True), torch.channels_last),
    }
    variants, unavailable = {}, {}
    for name, (call, memory) in ways.items():
        answer = partial(_call, call, memory)
        try:
            with quietly():  # inductor says when it was that it found no GPU
                for size in (1, 2):  # it compiles once for 1, once for more
                    answer(np.zeros((size, 3, SIDE, SIDE), np.uint8))
            variants[name] = Variant(answer, file)
        except Exception as error:  # whatever inductor, its compiler and the system raise
            unavailable[name] = f"does not run here ({type(error).__name__}): it needs a C++ compiler"
    return variants, unavailable


def _run(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    return session.run([OUTPUT], {INPUT: images})[0]


def _call(call: Callable[[torch.Tensor], torch.Tensor], memory: torch.memory_format, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return call(torch.from_numpy(images).contiguous(memory_format=memory)).float().numpy()


def _optimise_offline(source: Path, target: Path) -> None:
    """Write what ONNX Runtime makes of a graph when it opens it, but for what only suits this processor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with whole_file(target) as written:
        options.optimized_model_filepath = str(written)
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

"""Predictions of an exported network, run by ONNX Runtime alone."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.files import ROOT, project_path, read_json
from lib.core.input_rule import IMAGE_SIZE, INPUT_RULES, InputRule, size_mistake
from lib.inference.images import DecodedImage
from lib.inference.out_of_distribution import DistanceTest, from_json

INPUT, OUTPUT = "images", "logits"
_FAR = "the image is far from the training data, so the prediction has no basis"
MARGIN = "margin"  # between the logits, below which a cascade runs its next stage (lib.export.cascade)


@dataclass(frozen=True)
class Prediction:
    """Hold the prediction for one image: the likelier class, and its probabilities before and after calibration.

    `probs` are the softmax of the logits by class, `calibrated` the same at the temperature that was fitted on
    validation images. `out_of_distribution` tells that the image is far from the validation images
    (lib.inference.out_of_distribution; None: there is no threshold). `unsure` tells that it is, or that the calibrated
    confidence is below the selective threshold, the one that keeps the target risk (None: there is no threshold of
    either kind).
    """

    prediction: str
    probs: dict[str, float]
    calibrated: dict[str, float]
    unsure: bool | None
    out_of_distribution: bool | None


@dataclass(frozen=True)
class Calibration:
    """Hold what was fitted on a network's validation images, to make predictions of its logits.

    `temperature` divides the logits; below the confidence `selective_threshold`, and beyond the threshold of
    `distance`, a prediction is unsure.
    """

    temperature: float = 1.0
    selective_threshold: float | None = None
    distance: DistanceTest | None = None

    def predictions(self, pixels: np.ndarray, margins: Sequence[float]) -> list[Prediction]:
        """Return the prediction for each image (uint8 N×S×S×3) from the margin between its logits, FAKE less REAL."""
        far = self.distance.beyond(pixels).tolist() if self.distance and len(pixels) else [None] * len(margins)
        return [self._prediction(margin, beyond) for margin, beyond in zip(margins, far, strict=True)]

    def _prediction(self, margin: float, far: bool | None) -> Prediction:
        raw, calibrated = _by_class(margin), _by_class(margin / self.temperature)
        unsure = far
        if self.selective_threshold is not None:
            unsure = bool(far) or max(calibrated.values()) < self.selective_threshold
        return Prediction(CLASSES[0] if raw[CLASSES[0]] > 0.5 else CLASSES[1], raw, calibrated, unsure, far)


class Predictor:
    """Classify images with an exported network, calibrated where its temperature is known.

    `path` is an ONNX file with the input and output that `open_onnx` checks. `calibration` is that of the JSON file of
    the same name beside it (06_export), else of `metrics.json` there (04_evaluate); without either file its temperature
    is 1, and there are no thresholds. `input_rule` is the rule from an image to the network's input: its size is that
    of the network, its version that of the same file (else 1). Raises InputError for a missing file, and one of another
    kind.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.session = open_onnx(path, threads)
        own = path.with_suffix(".json")
        metrics = own if own.is_file() else path.with_name("metrics.json")
        content = read_json(metrics) if metrics.is_file() else {}
        try:
            self.data = content.get("data", "unknown data")
            self.calibration = _calibration(content) if content else Calibration()
            self.input_rule = InputRule(image_size(self.session), _rule_version(content))
        except (KeyError, TypeError) as error:
            raise InputError(f"{metrics} lacks {error}: take it from the same release as {path.name}") from None
        except ValueError as error:
            raise InputError(f"{metrics} is of another version ({error}): take both from one release") from None

    def logits(self, pixels: np.ndarray, full_cascade: bool = False) -> np.ndarray:
        """Return the logits, float32 N×2, of images (uint8 N×S×S×3, RGB).

        `full_cascade` runs all stages of a cascade (lib.export.cascade) on every image.
        """
        given = {INPUT: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
        if full_cascade:
            margins = (it.name for it in self.session.get_overridable_initializers() if it.name.endswith(MARGIN))
            given |= dict.fromkeys(margins, np.array(np.inf, np.float32))
        return self.session.run([OUTPUT], given)[0]

    def margins(self, pixels: np.ndarray) -> list[float]:
        """Return for each image (uint8 N×S×S×3, RGB) the logit of FAKE less that of REAL."""
        return (self.logits(pixels) @ np.array([1.0, -1.0])).tolist()

    def predict(self, pixels: np.ndarray) -> list[Prediction]:
        """Return the prediction for each image (uint8 N×S×S×3, RGB)."""
        return self.calibration.predictions(pixels, self.margins(pixels))


def _rule_version(content: dict[str, Any]) -> int:
    if (rule := content.get("input_rule", 1)) not in INPUT_RULES:
        raise ValueError(f"its input rule is {rule}, not one of {', '.join(map(str, INPUT_RULES))}")
    return rule


def _calibration(content: dict[str, Any]) -> Calibration:
    distance = content.get("out_of_distribution")
    return Calibration(
        float(content["calibration"]["temperature"]),
        content["selective"]["selective_threshold"],
        None if distance is None else from_json(distance),
    )


def warning(image: DecodedImage, prediction: Prediction) -> str | None:
    """Return in a sentence or two why the prediction is less reliable than others, or None."""
    far = _FAR if prediction.out_of_distribution else None
    return "; ".join(filter(None, (image.warning, far))) or None


def _by_class(margin: float) -> dict[str, float]:
    p_fake = 1 / (1 + math.exp(min(-margin, 700)))  # beyond, exp would overflow
    return dict(zip(CLASSES, (p_fake, 1 - p_fake), strict=True))


def default_model_path() -> Path:
    """Return the network that CIFAKE_MODEL names; without it the released one: the selected variant, or the export."""
    if named := os.environ.get("CIFAKE_MODEL"):
        return project_path(named)
    served = ROOT / "outputs" / "reference" / "served.onnx"
    return served if served.is_file() else served.with_name("model.onnx")


def open_onnx(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open an exported network for the CPU (`threads` 0: one a usable core).

    Its input must be `images`, uint8 N×3×S×S (RGB, S a multiple of 16 up to 256), its output `logits`, float32 N×2.
    Raises InputError for a missing file, one that is not ONNX, and a network with other inputs or outputs.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: export a network first")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or joblib.cpu_count()  # by itself it takes no heed of a quota
    options.log_severity_level = 3  # errors: that a margin may be given is no reason to warn
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a thread that spins takes a core
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        raise InputError(f"{path} is not an ONNX file ({str(error).splitlines()[0]}): export it again") from None
    found = [(end.name, end.type, end.shape[1:]) for end in (*session.get_inputs(), *session.get_outputs())]
    side = found[0][2][-1] if found and found[0][2] else None
    size = side if isinstance(side, int) and not size_mistake(side) else IMAGE_SIZE
    contract = [(INPUT, "tensor(uint8)", [3, size, size]), (OUTPUT, "tensor(float)", [2])]
    if found != contract:
        raise InputError(f"{path} has {found} where {contract} is the contract: export it with this project")
    return session


def image_size(session: onnxruntime.InferenceSession) -> int:
    """Return the side, in pixels, of the images that a network of `open_onnx` takes."""
    return session.get_inputs()[0].shape[-1]

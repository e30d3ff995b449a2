"""The released network, run by ONNX Runtime alone: pixels in, verdicts out."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from lib import CLASSES
from lib.decode import SIDE
from lib.errors import InputError
from lib.files import ROOT, read_json

INPUT, OUTPUT = "images", "logits"
MARGIN = "margin"  # between the logits, below which an image is worth more work (lib.cascade)


@dataclass(frozen=True)
class Verdict:
    """Say what a picture is: the likelier class, the network's probabilities, and how far to trust them.

    `probs` are the softmax of the logits by class, `calibrated` the same at the temperature that validation images
    chose; `unsure` tells that the calibrated confidence is below what keeps the stated error (None: not known).
    """

    prediction: str
    probs: dict[str, float]
    calibrated: dict[str, float]
    unsure: bool | None


class Model:
    """Judge pictures with an exported network, and with what is known of its probabilities, if that lies beside it.

    `path` is an ONNX file of the project's contract; temperature and threshold are those of the JSON file of the same
    name beside it (06_export), else of `metrics.json` (04_evaluate). Raises InputError for a missing or foreign file.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.session = open_onnx(path, threads)
        own = path.with_suffix(".json")
        metrics = own if own.is_file() else path.with_name("metrics.json")
        content = read_json(metrics) if metrics.is_file() else {}
        try:
            self.data = content.get("data", "unknown data")
            self.temperature = float(content["calibration"]["temperature"]) if content else 1.0
            self.unsure_below = content["selective"]["unsure_below"] if content else None
        except (KeyError, TypeError) as error:
            raise InputError(f"{metrics} lacks {error}: take it from the same release as {path.name}") from None

    def logits(self, pixels: np.ndarray, thorough: bool = False) -> np.ndarray:
        """Return the logits, float32 N×2, of pictures (uint8 N×32×32×3, RGB).

        Where less work answers what is easy (lib.cascade), none is spared with `thorough`.
        """
        given = {INPUT: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
        if thorough:
            margins = (it.name for it in self.session.get_overridable_initializers() if it.name.endswith(MARGIN))
            given |= dict.fromkeys(margins, np.array(np.inf, np.float32))
        return self.session.run([OUTPUT], given)[0]

    def margins(self, pixels: np.ndarray) -> list[float]:
        """Return for each picture (uint8 N×32×32×3, RGB) the logit of FAKE less that of REAL."""
        return (self.logits(pixels) @ np.array([1.0, -1.0])).tolist()

    def judge(self, pixels: np.ndarray) -> list[Verdict]:
        """Return a verdict for each picture (uint8 N×32×32×3, RGB)."""
        return [self.verdict(margin) for margin in self.margins(pixels)]

    def verdict(self, margin: float) -> Verdict:
        """Return the verdict that a margin between the logits (FAKE less REAL) means."""
        raw, calibrated = _by_class(margin), _by_class(margin / self.temperature)
        unsure = None if self.unsure_below is None else max(calibrated.values()) < self.unsure_below
        return Verdict(CLASSES[0] if raw[CLASSES[0]] > 0.5 else CLASSES[1], raw, calibrated, unsure)


def _by_class(margin: float) -> dict[str, float]:
    p_fake = 1 / (1 + math.exp(min(-margin, 700)))  # beyond, exp would overflow
    return dict(zip(CLASSES, (p_fake, 1 - p_fake), strict=True))


def released() -> Path:
    """Return the released network that answers: the variant that 06_export chose, or the plain export without one."""
    served = ROOT / "outputs" / "reference" / "served.onnx"
    return served if served.is_file() else served.with_name("model.onnx")


def open_onnx(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open an exported network for the CPU (`threads` 0: as many as there are cores).

    Raises InputError when it is missing or is none of ours.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: export a network first")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors: that a margin may be given is no reason to warn
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a thread that spins takes a core
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        raise InputError(f"{path} is not an ONNX file ({str(error).splitlines()[0]}): export it again") from None
    contract = [(INPUT, "tensor(uint8)", [3, SIDE, SIDE]), (OUTPUT, "tensor(float)", [2])]
    found = [(end.name, end.type, end.shape[1:]) for end in (*session.get_inputs(), *session.get_outputs())]
    if found != contract:
        raise InputError(f"{path} has {found} where {contract} is the contract: export it with this project")
    return session

"""Judge a network on labelled images of any origin: a row an image, then figures for each set of them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import special
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.file_set import escaped
from lib.core.input_rule import InputRule
from lib.core.labelled import LabelledFile, LabelledImages, open_labelled
from lib.core.parameters import did_you_mean
from lib.core.pixel_hash import pixel_hash, read_hashes
from lib.core.rows import equal_pixels
from lib.core.terminal import encodable
from lib.core.threads import map_batches
from lib.evaluation.bootstrap import bootstrap
from lib.evaluation.metrics import Estimate, evaluate, proportion
from lib.evaluation.predictions import LOGITS, run_network
from lib.inference.drift import STATISTICS, DriftTest, image_statistics, read_reference
from lib.inference.images import as_jpeg, decode_image
from lib.inference.predictor import Calibration, Prediction, Predictor
from lib.models.device import choose_device
from lib.models.networks import Network

Predict = Callable[[np.ndarray], list[Prediction]]  # of uint8 N×S×S×3
_Named = tuple[str, LabelledFile]  # the name of a set, and a file of it

HASHES = "training_hashes.npy"  # of a network's training images (lib.core.pixel_hash), beside it

_BATCH, _LEAST = 64, 10  # images of 32×32; images of each side of an AUC
_OVERALL = ("accuracy", "balanced_accuracy", "recall", "roc_auc")  # none of them depends on the temperature


def predict_sets(images: LabelledImages, predict: Predict, rule: InputRule, jpeg: int | None = None) -> pd.DataFrame:
    """Return a table with a row an image: `set`, `file`, `label` (0 FAKE, 1 REAL), and what came of it.

    That is `error`, the reason why an image cannot be read, or `p_fake` (calibrated), `unsure`,
    `out_of_distribution`, `hash` (of the network's input) and the image statistics of lib.inference.drift. With `jpeg`
    each image, at its own size, is first encoded as a JPEG of that quality (4:2:0); `hash` is of the image before.
    Raises InputError for another quality than 1 to 95.
    """
    if jpeg is not None and not 1 <= jpeg <= 95:
        raise InputError(f"jpeg is {jpeg}: give a quality from 1 to 95")
    files = [(title, file) for title, own in images.sets.items() for file in own]
    rows = map_batches(partial(_rows, images, predict, rule, jpeg), files, equal_pixels(_BATCH, rule.size))
    return pd.DataFrame(list(tqdm(rows, total=len(files), unit=" images", disable=None, leave=False)))


def _rows(
    images: LabelledImages, predict: Predict, rule: InputRule, jpeg: int | None, files: Sequence[_Named]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    inputs: dict[int, np.ndarray] = {}
    for number, (title, file) in enumerate(files):
        rows.append({"set": title, "file": escaped(file.name), "label": file.label, "error": None})
        try:
            content = images.read(file.name)
            inputs[number] = decode_image(content, rule).pixels
            rows[-1]["hash"] = pixel_hash(inputs[number])
            if jpeg is not None:
                inputs[number] = decode_image(as_jpeg(content, jpeg), rule).pixels
        except InputError as error:
            rows[-1]["error"] = str(error)
            inputs.pop(number, None)
    if inputs:
        pixels = np.stack(list(inputs.values()))
        for number, prediction, statistics in zip(inputs, predict(pixels), image_statistics(pixels), strict=True):
            rows[number] |= {
                "p_fake": prediction.calibrated["FAKE"],
                "unsure": prediction.unsure,
                "out_of_distribution": prediction.out_of_distribution,
                **dict(zip(STATISTICS, statistics.tolist(), strict=True)),
            }
    return rows


def evaluate_sets(
    table: pd.DataFrame,
    images: LabelledImages,
    against: str | None = None,
    training: np.ndarray | None = None,
    drift: DriftTest | None = None,
) -> dict[str, Any]:
    """Return the figures of the sets of `images`, whose table is that of `predict_sets`.

    `sets` has an entry for each class of each set: `n` images; the share `called_fake`; `roc_auc` of FAKE images
    against the REAL ones of the set `against` (of all sets, where it is None); the shares `withheld` (UNSURE) and
    `out_of_distribution`; `drift_p_value`, the least of the predicted classes, of all its images by `drift`. What a
    figure needs and has not is None. `pooled` are the shares called FAKE by class, of all FAKE images, and of all REAL
    ones but those of `against`. `overall` are the metrics of all images, where both classes are there.
    `unreadable` has a reason for each file that could not be read, `skipped` the files that are no images, `outside`
    the images in no class folder. Images with a hash in `training` and those that are in both classes are left out of
    all figures, counted, and named. Raises InputError for an `against` that is no set with REAL images, and where no
    image can be read.
    """
    known = table[table["error"].isna()]
    if known.empty:
        raise InputError(f"{images.location}: no image can be read; of {table['file'][0]}: {table['error'][0]}")
    overlap = known["hash"].isin(training) if training is not None else pd.Series(False, known.index)
    in_both = known.groupby("hash")["label"].transform("nunique") > 1
    judged = known[~overlap & ~in_both]
    reference = judged[judged["label"] == 1]
    if against is not None:
        with_real = set(table.loc[table["label"] == 1, "set"])
        if against not in with_real:
            raise InputError(f"{against!r} is no set with REAL images: {did_you_mean(against, sorted(with_real))}")
        reference = reference[reference["set"] == against]
    sets = []
    for (title, label), rows in table.groupby(["set", "label"]):
        own = judged.loc[judged.index.isin(rows.index)]
        sets.append({
            "set": title,
            "class": CLASSES[label],
            "description": images.descriptions.get(title, {}),
            "n": len(own),
            "called_fake": proportion(int((own["p_fake"] > 0.5).sum()), len(own)),
            "roc_auc": _auc(own, reference) if label == 0 else None,
            "withheld": _share(own["unsure"]),
            "out_of_distribution": _share(own["out_of_distribution"]),
            "drift_p_value": _drift(own, drift),
            "training_images": int(overlap[overlap.index.isin(rows.index)].sum()),
        })  # fmt: skip
    unreadable = table[table["error"].notna()]
    foreign = judged[(judged["label"] == 0) | (judged["set"] != against)]
    called_fake = {name: foreign.loc[foreign["label"] == label, "p_fake"] > 0.5 for label, name in enumerate(CLASSES)}
    return {
        "n": len(judged),
        "against": against if against is not None else "all REAL images",
        "sets": sets,
        "pooled": {name: proportion(int(flags.sum()), len(flags)) for name, flags in called_fake.items()},
        "overall": _overall(judged),
        "training_images": None if training is None else int(overlap.sum()),
        "in_both_classes": known.loc[in_both, "file"].tolist(),
        "unreadable": {
            **dict(zip(unreadable["file"], unreadable["error"], strict=True)),
            **{escaped(name): f"it {reason}" for name, reason in images.unusable.items()},
        },
        "skipped": [escaped(name) for name in images.skipped],
        "outside": [escaped(name) for name in images.outside],
    }


def evaluate_path(path: Path, model: Path, against: str | None = None, jpeg: int | None = None) -> dict[str, Any]:
    """Return the figures (`evaluate_sets`) of an exported network on the sets in a folder or a zip.

    `location`, `model`, `jpeg` and `input_rule` tell what was evaluated. Raises InputError as each step does.
    """
    predictor, images = Predictor(model, threads=1), open_labelled(path)
    table = predict_sets(images, predictor.predict, predictor.input_rule, jpeg)
    rule = predictor.input_rule.version
    about = {"location": images.location, "model": encodable(str(model)), "jpeg": jpeg, "input_rule": rule}
    return about | evaluate_sets(table, images, against, *references(model))


def evaluate_network(
    network: Network, calibration: Calibration, input_rule: int, path: Path, training: np.ndarray,
    drift: DriftTest | None, accelerator: str,
) -> dict[str, Any]:  # fmt: skip
    """Return the figures (`evaluate_sets`) of a network in PyTorch on the sets in a folder or a zip."""
    images, device, lock = open_labelled(path), choose_device(accelerator), Lock()

    def predict(pixels: np.ndarray) -> list[Prediction]:
        with lock:  # the network is one for all threads
            logits = run_network(network, torch.from_numpy(pixels).to(device), progress=False).logits
        return calibration.predictions(pixels, (logits[:, 0] - logits[:, 1]).tolist())

    table = predict_sets(images, predict, InputRule(network.image_size, input_rule))
    about = {"location": images.location, "model": "trained network", "jpeg": None, "input_rule": input_rule}
    return about | evaluate_sets(table, images, training=training, drift=drift)


def references(model: Path) -> tuple[np.ndarray | None, DriftTest | None]:
    """Return what lies beside a network: the hashes of its training images, and its drift test; None for what does not.

    Raises InputError for files of another kind.
    """
    hashes, drift = model.with_name(HASHES), model.with_name("drift.npz")
    return read_hashes(hashes) if hashes.is_file() else None, read_reference(drift) if drift.is_file() else None


def _share(flags: pd.Series) -> Estimate | None:
    return None if flags.isna().any() else proportion(int(flags.sum()), len(flags))


def _auc(fake: pd.DataFrame, real: pd.DataFrame) -> Estimate | None:
    """Return the AUC with its bootstrap interval, over both sides; None for fewer than _LEAST images of a side."""
    if min(len(fake), len(real)) < _LEAST:
        return None
    label, p_fake = (np.concatenate([fake[name], real[name]]) for name in ("label", "p_fake"))
    low, high = bootstrap(label, p_fake)["roc_auc"]
    value = float(roc_auc_score(label == 0, p_fake))
    return {"value": value, "ci_low": low, "ci_high": high, "n": len(label), "method": "bootstrap"}


def _drift(own: pd.DataFrame, drift: DriftTest | None) -> float | None:
    if drift is None or own.empty:
        return None
    predicted = (own["p_fake"] <= 0.5).to_numpy(int)
    return min(drift.p_values(own[list(STATISTICS)].to_numpy(np.float32), predicted).values(), default=None)


def _overall(judged: pd.DataFrame) -> dict[str, Any] | None:
    if judged["label"].nunique() < len(CLASSES):
        return None
    margin = special.logit(judged["p_fake"].to_numpy(float))
    metrics = evaluate(judged.assign(**{LOGITS[0]: margin, LOGITS[1]: 0.0}))
    return {name: metrics[name] for name in _OVERALL}

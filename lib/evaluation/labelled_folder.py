"""Metrics of an exported network on a labelled folder of images: `FAKE/` and `REAL/`."""

from pathlib import Path
from typing import Any

import pandas as pd
from scipy import special
from tqdm import tqdm

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.terminal import encodable
from lib.evaluation.metrics import evaluate, percent, proportion
from lib.evaluation.predictions import LOGITS
from lib.inference.image_files import find_images
from lib.inference.predict_files import predicted
from lib.inference.predictor import Predictor

_METRICS = ("accuracy", "balanced_accuracy", "recall", "roc_auc")  # none of them depends on the temperature


def evaluate_folder(folder: Path, model: Path) -> dict[str, Any]:
    """Return the metrics of the network `model` (an ONNX file) on the images in `folder`/FAKE and `folder`/REAL.

    Keys: `n`, the number of images that could be read; `accuracy`, `balanced_accuracy`, `recall` (of each class) and
    `roc_auc`, each an Estimate with its 95 % interval; `unsure`, the share of predictions below the selective
    threshold (None where the network has none); `unreadable`, for each other file the reason. Accuracy counts unsure
    predictions too. `skipped` are the files that are no images (`find_images`). Raises InputError for a missing folder,
    a class without readable images, and what `Predictor` refuses.
    """
    network, files, skipped, label = Predictor(model, threads=1), [], [], []
    for index, name in enumerate(CLASSES):
        own = [path for path in sorted(folder.glob("*")) if path.name.upper() == name and path.is_dir()]
        if not own:
            raise InputError(f"{folder} has no folder {name}: put the images of each class into FAKE and REAL there")
        found, passed = find_images(own)
        files += found
        skipped += passed
        label += [index] * len(found)
    rows = list(tqdm(predicted(network, files), total=len(files), unit=" images", disable=None, leave=False))
    table = pd.DataFrame(rows).assign(label=label)
    images = table[table["error"].isna()]
    margin = special.logit(images["p_fake"].to_numpy(float))
    metrics = evaluate(images.assign(**{LOGITS[0]: margin, LOGITS[1]: 0.0}))
    withheld = images["unsure"].sum() if network.selective_threshold is not None else None
    return {
        "folder": encodable(str(folder)),
        "model": encodable(str(model)),
        "n": len(images),
        **{name: metrics[name] for name in _METRICS},
        "unsure": None if withheld is None else proportion(withheld, len(images)),
        "unreadable": {row["file"]: row["error"] for row in rows if row["error"]},
        "skipped": [encodable(str(path)) for path in skipped],
    }


def folder_summary(metrics: dict[str, Any]) -> str:
    """Return what `evaluate_folder` returned as lines for people, each value with its 95 % interval."""
    estimates = {
        "accuracy": metrics["accuracy"],
        "balanced accuracy": metrics["balanced_accuracy"],
        **{f"recall {name}": metrics["recall"][name] for name in CLASSES},
        "ROC AUC": metrics["roc_auc"],
        "UNSURE": metrics["unsure"],
    }
    lines = [f"{metrics['n']:,} images; 95 % confidence intervals in brackets"]
    for name, estimate in estimates.items():
        lines.append(f"{name:19}{percent(estimate) if estimate else 'the network has no threshold'}")
    return "\n".join(lines)

"""Fit a second head to the released network that detects the fakes of other generators than CIFAKE's.

    python benchmarks/generators.py DATASET [--recipe FILE] [--weights FILE] [--output FOLDER]

DATASET is a folder of 01_data. Fakes are made of its REAL training images alone, by the families of generators of
lib/generators; the table has the figures of each family on the validation images where it was left out. FOLDER gets
the fakes, `generators.onnx`, which `cifake evaluate --model` and the service take, and `run.json`. A run that was
interrupted goes on with the next family.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from lib.core.files import ROOT, write_json
from lib.core.provenance import lib_hash
from lib.data.dataset import open_dataset
from lib.evaluation.metrics import evaluate, percent
from lib.evaluation.predictions import predict
from lib.export.onnx_file import export_onnx
from lib.generators.detector import (
    all_statistics,
    called_fake,
    check_photographs,
    fitted,
    head_fit,
    leave_one_out,
    with_head,
)
from lib.generators.fakes import make_fakes
from lib.generators.recipe import load_recipe
from lib.models.device import set_threads
from lib.models.weights import load_weights
from lib.training.run_record import run_record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--recipe", type=Path, default=ROOT / "parameters" / "generators.yaml")
    parser.add_argument("--weights", type=Path, default=ROOT / "outputs" / "reference" / "weights.safetensors")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "generators")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()

    start = time.process_time()
    set_threads(given.threads)
    recipe, dataset, network = load_recipe(given.recipe), open_dataset(given.dataset), load_weights(given.weights)
    check_photographs(dataset, recipe)
    fakes = make_fakes(dataset, recipe, given.output / "fakes")
    with torch.inference_mode():
        statistics = all_statistics(network, dataset, fakes, recipe)
        fit = head_fit(network, statistics, recipe)
        rows = leave_one_out(fit, statistics, recipe)
        head = fitted(fit, statistics, recipe)
        val = {
            name: called_fake(head, getattr(statistics, name))
            for name in ("cifake_val", "real_val", "real_foreign_val")
        }
    for row in rows:
        print(f"| {row['family']} | `{row['set']}` | {row['n']} | {row['auc']:.2f} | {row['entropy_auc']:.2f} | "
              f"{percent(row['found'], 1)} | {percent(row['false_alarms'], 1)} |")  # fmt: skip
    print("mean ROC AUC", f"{np.mean([row['auc'] for row in rows]):.3f}")
    print("called FAKE:", {name: percent(it) for name, it in val.items()})
    detector = with_head(network, head)
    export_onnx(detector, given.output / "generators.onnx")
    test = evaluate(predict(detector, dataset, ("test",), "cpu")[0])
    print("accuracy on the test images:", percent(test["accuracy"]))
    write_json(given.output / "run.json", run_record(
        asdict(recipe), dataset.metadata, lib_hash(module="generators.detector"),
        left_out=rows, called_fake=val, test=test, cpu_seconds=time.process_time() - start,
    ))  # fmt: skip


if __name__ == "__main__":
    main()

"""Time training to an accuracy and compare it with the CNN baseline (student project), on one machine.

    python benchmarks/time_to_accuracy.py ARCHIVE [--recipes NAME ...] [--seeds N] [--set NAME=VALUE ...]
                                           [--no-baseline] [--profile]

A training recipe is a file of parameters/ (by name, such as cpu); sample.yaml holds the defaults of all others. Each
recipe is trained with seeds 0 … N−1, and evaluated once on the test images. Times are those of all training epochs,
without loading the data and without validation. That of the baseline is measured over one epoch of its 80,000 images
and multiplied by its 70 epochs. Runs stay in outputs/benchmarks/; a finished one is not repeated.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from lib.core.files import ROOT, read_json, write_json
from lib.core.parameters import load_profile
from lib.core.provenance import processor
from lib.data.batches import Batches, load_tensors
from lib.data.dataset import PackedDataset, open_dataset
from lib.data.packing import pack_dataset
from lib.data.source import Source, open_source
from lib.evaluation.metrics import evaluate
from lib.evaluation.predictions import predict
from lib.models.networks import NETWORKS, Network, build_network, count_macs, count_parameters
from lib.training.baselines import RECIPES
from lib.training.detector import Detector
from lib.training.settings import Settings
from lib.training.train import train

FOLDER = ROOT / "outputs" / "benchmarks"
BASELINE = {**RECIPES["cnn_baseline"], "images": 80_000, "workers": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("--recipes", nargs="+", default=["faster", "cpu"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--set", nargs="+", type=parameter, default=[], metavar="NAME=VALUE", help="overrides of the recipes"
    )
    parser.add_argument("--no-baseline", action="store_true", help="do not time the CNN baseline")
    parser.add_argument("--profile", action="store_true", help="also print the time of each operator")
    arguments = parser.parse_args()

    source = open_source(str(Path(arguments.archive).resolve()), FOLDER / "sample")
    dataset = open_or_pack(source)
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    print(f"{gpu}{processor()}, {torch.get_num_threads()} threads, {dataset.metadata['data']}\n")
    baseline = None if arguments.no_baseline else baseline_seconds(source)
    if baseline:
        total = BASELINE["epochs"] * baseline
        print(f"CNN baseline (student project): {baseline:.0f} s an epoch, {total:,.0f} s in all\n")
    overrides = dict(arguments.set)
    for recipe in arguments.recipes:
        runs = [run(recipe, {**overrides, "seed": seed}, dataset) for seed in range(arguments.seeds)]
        report(recipe, runs, baseline)
        if arguments.profile:
            profile(settings_of(recipe, overrides), dataset)


def parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not value or name not in {field.name for field in fields(Settings)}:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a NAME from lib.training.settings")
    return name, yaml.safe_load(value)


def open_or_pack(source: Source) -> PackedDataset:
    folder = FOLDER / "dataset"
    if (folder / "metadata.json").is_file():
        return open_dataset(folder)
    return pack_dataset(source, folder, progress=False)


def settings_of(recipe: str, overrides: dict[str, Any]) -> Settings:
    values = load_profile(recipe)
    return Settings(**{f.name: values[f.name] for f in fields(Settings)} | overrides)


def run(recipe: str, overrides: dict[str, Any], dataset: PackedDataset) -> dict[str, Any]:
    """Train one run and evaluate it without and with flip TTA; write and return its results."""
    settings = settings_of(recipe, overrides)
    folder = FOLDER / recipe / str(settings.seed)
    network = train(dataset, settings, folder)
    record = read_json(folder / "run.json")
    results = {"seconds": record["train_seconds"], "val_acc": record["val_acc"], "epochs": settings.epochs}
    for tta in ("without_tta", "with_tta"):
        evaluated = network.with_hflip_tta(tta == "with_tta")
        results[tta] = {
            "parameters": count_parameters(evaluated),
            "macs": count_macs(evaluated),
            **evaluate_on_test(evaluated, dataset, settings),
        }
    write_json(folder / "results.json", results)
    return results


def evaluate_on_test(network: Network, dataset: PackedDataset, settings: Settings) -> dict[str, Any]:
    table, _ = predict(network, dataset, ("test",), settings.accelerator, progress=False)
    return {"test": evaluate(table), "test_without_leaks": evaluate(table[~table["leaked"]])}


def report(recipe: str, runs: list[dict[str, Any]], baseline: float | None) -> None:
    print(f"{recipe}: {runs[0]['epochs']} epochs, n = {len(runs)}")
    seconds = [results["seconds"] for results in runs]
    print(f"  training     {spread(seconds, 1)} s")
    if baseline:
        print(f"  ratio        1/{spread([BASELINE['epochs'] * baseline / value for value in seconds], 1)}")
    print(f"  validation   {spread([100 * results['val_acc'] for results in runs])} %")
    for tta in ("without_tta", "with_tta"):
        tested = [results[tta] for results in runs]
        print(f"  {tta}: {tested[0]['parameters']:,} parameters, {tested[0]['macs'] / 1e6:.1f} million MACs")
        for split in ("test", "test_without_leaks"):
            n = tested[0][split]["accuracy"]["n"]
            accuracy = spread([100 * metrics[split]["accuracy"]["value"] for metrics in tested])
            roc_auc = spread([metrics[split]["roc_auc"]["value"] for metrics in tested], 5)
            print(f"    {n:,} test images: {accuracy} %, ROC AUC {roc_auc}")
    print(flush=True)


def profile(settings: Settings, dataset: PackedDataset) -> None:
    """Print the time of each operator over ten training steps, data path and optimiser included."""
    network = build_network(settings.network, dataset.metadata["mean"], dataset.metadata["std"])
    detector = Detector(network.to(memory_format=torch.channels_last), settings)
    optimizer = detector.optimizer()
    indices = dataset.indices("train")[: 12 * settings.batch_size]
    batches = iter(Batches(*load_tensors(dataset, indices), settings.batch_size, settings.augmentation(), seed=0))
    with torch.profiler.profile(schedule=torch.profiler.schedule(wait=1, warmup=1, active=10)) as profiler:
        for images, labels in batches:
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            profiler.step()
    print(profiler.key_averages().table("self_cpu_time_total", row_limit=14, max_name_column_width=40), flush=True)


def spread(values: list[float], digits: int = 2) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


class Baseline(pl.LightningModule):
    """The network and optimiser of the CNN baseline (student project)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = NETWORKS["plain_64_128"](BASELINE["dropout"])

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        loss = torch.nn.functional.cross_entropy(self.network(images), labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), BASELINE["lr"])


def baseline_seconds(source: Source) -> float:
    """Return the seconds of one epoch of the CNN baseline, with its kind of data loader."""
    train_records = [record for record in source.records if record.split == "train"]
    with tempfile.TemporaryDirectory() as scratch:
        half = BASELINE["images"] // 2
        for record in [*train_records[:half], *train_records[-half:]]:
            path = Path(scratch) / record.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(record))
        transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
        images = ImageFolder(str(Path(scratch) / "train"), transform)
        loader = DataLoader(images, BASELINE["batch_size"], shuffle=True, num_workers=BASELINE["workers"])
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=scratch,
        )  # fmt: skip
        start = time.perf_counter()
        trainer.fit(Baseline(), loader)
        return (time.perf_counter() - start) * BASELINE["images"] / len(images)


if __name__ == "__main__":
    main()

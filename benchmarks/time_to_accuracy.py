"""Time training up to an accuracy, against the earlier project's recipe, in one run on one machine.

    python benchmarks/time_to_accuracy.py ARCHIVE [--recipes NAME ...] [--seeds N] [--set NAME=VALUE ...]
                                           [--no-earlier] [--profile]

A recipe is a file of parameters/ (by name, such as cpu): what it does not say is taken from sample.yaml. Each is
trained with seeds 0 … N−1 and then judged once on the test images. Seconds are those of all epochs, from data in
memory; the earlier project's are those of one epoch of its 80,000 images, times its 70 epochs. Validation counts in
neither. Runs stay in outputs/benchmarks/; one that is finished is not repeated.
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

from lib.batches import Batches, tensors
from lib.detector import Detector
from lib.files import ROOT, read_json, write_json
from lib.metrics import evaluate
from lib.networks import NETWORKS, Network, build_network, count_macs, count_parameters
from lib.pack import Pack, open_pack
from lib.packing import build_pack
from lib.predictions import predict
from lib.provenance import processor
from lib.settings import Settings
from lib.source import Source, open_source
from lib.training import train

FOLDER = ROOT / "outputs" / "benchmarks"
EARLIER = {"images": 80_000, "batch_size": 128, "epochs": 70, "learning_rate": 0.00572, "dropout": 0.158, "workers": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("--recipes", nargs="+", default=["faster", "cpu"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--set", nargs="+", type=parameter, default=[], metavar="NAME=VALUE", help="in place of the recipe's"
    )
    parser.add_argument("--no-earlier", action="store_true", help="do not time the earlier project's recipe")
    parser.add_argument("--profile", action="store_true", help="also show where the time of a training step goes")
    arguments = parser.parse_args()

    source = open_source(str(Path(arguments.archive).resolve()), FOLDER / "sample")
    pack = opened(source)
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    print(f"{gpu}{processor()}, {torch.get_num_threads()} threads, {pack.facts['data']}\n")
    earlier = None if arguments.no_earlier else earlier_seconds(source)
    if earlier:
        print(f"earlier project: {earlier:.0f} s an epoch, {EARLIER['epochs'] * earlier:,.0f} s in all\n")
    instead = dict(arguments.set)
    for recipe in arguments.recipes:
        runs = [run(recipe, {**instead, "seed": seed}, pack) for seed in range(arguments.seeds)]
        report(recipe, runs, earlier)
        if arguments.profile:
            profile(settings_of(recipe, instead), pack)


def parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not value or name not in {field.name for field in fields(Settings)}:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE with a name from lib.settings")
    return name, yaml.safe_load(value)


def opened(source: Source) -> Pack:
    folder = FOLDER / "pack"
    return open_pack(folder) if (folder / "pack.json").is_file() else build_pack(source, folder, progress=False)


def settings_of(recipe: str, instead: dict[str, Any]) -> Settings:
    values = {
        key: value
        for name in ("sample", recipe)
        for key, value in yaml.safe_load((ROOT / "parameters" / f"{name}.yaml").read_text(encoding="utf-8")).items()
    }
    return Settings(**{f.name: values[f.name] for f in fields(Settings)} | instead)


def run(recipe: str, instead: dict[str, Any], pack: Pack) -> dict[str, Any]:
    """Train and judge one run, with and without its mirrored view; write and return its figures."""
    settings = settings_of(recipe, instead)
    folder = FOLDER / recipe / str(settings.seed)
    network = train(pack, settings, folder)
    record = read_json(folder / "run.json")
    figures = {"seconds": record["train_seconds"], "val_acc": record["val_acc"], "epochs": settings.epochs}
    for views in (2, 1):
        judge = network.with_mirror(views == 2)
        figures[f"views_{views}"] = {
            "parameters": count_parameters(judge),
            "macs": count_macs(judge),
            **judged(judge, pack, settings),
        }
    write_json(folder / "figures.json", figures)
    return figures


def judged(network: Network, pack: Pack, settings: Settings) -> dict[str, Any]:
    table, _ = predict(network, pack, ("test",), settings.accelerator, progress=False)
    return {"test": evaluate(table), "test_not_in_train": evaluate(table[~table["in_train"]])}


def report(recipe: str, runs: list[dict[str, Any]], earlier: float | None) -> None:
    print(f"{recipe}: {runs[0]['epochs']} epochs, n = {len(runs)}")
    seconds = [figures["seconds"] for figures in runs]
    print(f"  training     {spread(seconds, 1)} s")
    if earlier:
        print(f"  ratio        1/{spread([EARLIER['epochs'] * earlier / value for value in seconds], 1)}")
    print(f"  validation   {spread([100 * figures['val_acc'] for figures in runs])} %")
    for views in ("views_2", "views_1"):
        seen = [figures[views] for figures in runs]
        print(
            f"  {views}: {seen[0]['parameters']:,} parameters, {seen[0]['macs'] / 1e6:.1f} million multiply-accumulates"
        )
        for split in ("test", "test_not_in_train"):
            n = seen[0][split]["accuracy"]["n"]
            accuracy = spread([100 * figures[split]["accuracy"]["value"] for figures in seen])
            auc = spread([figures[split]["roc_auc"]["value"] for figures in seen], 5)
            print(f"    {n:,} test images: {accuracy} %, area under ROC {auc}")
    print(flush=True)


def profile(settings: Settings, pack: Pack) -> None:
    """Print which operators take the time of ten training steps, data path and optimiser included."""
    network = build_network(settings.network, pack.facts["mean"], pack.facts["std"])
    detector = Detector(network.to(memory_format=torch.channels_last), settings)
    optimizer = detector.optimizer()
    rows = pack.rows("train")[: 12 * settings.batch_size]
    batches = iter(Batches(*tensors(pack, rows), settings.batch_size, settings.augmentation, seed=0))
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


class Earlier(pl.LightningModule):
    """The earlier project's network and optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.network = NETWORKS["plain_64_128"](EARLIER["dropout"])

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        loss = torch.nn.functional.cross_entropy(self.network(images), labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), EARLIER["learning_rate"])


def earlier_seconds(source: Source) -> float:
    """Return the seconds of one epoch of the earlier project's recipe, through its kind of loader."""
    train_members = [member for member in source.members if member.split == "train"]
    with tempfile.TemporaryDirectory() as scratch:
        half = EARLIER["images"] // 2
        for member in [*train_members[:half], *train_members[-half:]]:
            path = Path(scratch) / member.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(member))
        transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
        images = ImageFolder(str(Path(scratch) / "train"), transform)
        loader = DataLoader(images, EARLIER["batch_size"], shuffle=True, num_workers=EARLIER["workers"])
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=scratch,
        )  # fmt: skip
        start = time.perf_counter()
        trainer.fit(Earlier(), loader)
        return (time.perf_counter() - start) * EARLIER["images"] / len(images)


if __name__ == "__main__":
    main()

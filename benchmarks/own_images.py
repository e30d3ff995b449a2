"""Train on data sets of one's own at several sizes; print accuracy, throughput and memory.

    python benchmarks/own_images.py --output outputs/benchmarks/own_images

REAL are crops, pixel by pixel, of the photographs that scikit-learn and matplotlib bundle; FAKE are the same crops
through a small autoencoder, which is trained here on crops of the training regions alone. Train and test crops come
from regions of the photographs that are 16 pixels apart. Each size is a folder of PNGs in `FAKE` and `REAL`, and goes
the way of any data set: packed, trained on, exported, predicted. Three photographs and one autoencoder make an easy
task: it shows that the path works and what it costs, not how well generators are detected.

Each training is a process of its own. `peak_anonymous` is the most memory that it holds itself, `peak_resident` that
and the pages of files that the system keeps for it (both in MB, with Python and PyTorch; Linux). Results are written
as they come; a second call with the same output computes what is missing.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from lib.core.files import ROOT, atomic_dir, read_json, write_json
from lib.core.input_rule import InputRule
from lib.core.provenance import git_commit, processor
from lib.data import batches
from lib.data.packing import pack_dataset
from lib.data.sample import open_photo
from lib.data.source import open_source
from lib.evaluation.metrics import evaluate
from lib.evaluation.predictions import predict
from lib.export.onnx_file import export_onnx
from lib.inference.images import decode_image
from lib.inference.predictor import Predictor
from lib.training.settings import Settings
from lib.training.train import train

PHOTOS = ("china.jpg", "flower.jpg", "grace_hopper.jpg")
TEST_SIDE, GAP = 256, 16  # pixels at the end of a photograph's longer side, and between them and the training region
AUTOENCODER_STEPS, AUTOENCODER_CROP = 400, 64


class Autoencoder(nn.Sequential):
    """Reconstruct images (float N×3×H×W on [−1, 1]) from a latent of a quarter of their sides and eight channels."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 4, 2, 1), nn.GELU(), nn.Conv2d(32, 64, 4, 2, 1), nn.GELU(), nn.Conv2d(64, 8, 3, 1, 1),
            nn.Conv2d(8, 64, 3, 1, 1), nn.GELU(), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.GELU(),
            nn.ConvTranspose2d(32, 3, 4, 2, 1),
        )  # fmt: skip


def regions() -> dict[str, list[np.ndarray]]:
    """Return the pixels of the training and of the test region of each photograph."""
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for name in PHOTOS:
        pixels = np.asarray(open_photo(name))
        along = int(pixels.shape[1] > pixels.shape[0])
        edge = pixels.shape[along] - TEST_SIDE
        whole = slice(None)
        for split, part in (("train", slice(0, edge - GAP)), ("test", slice(edge, None))):
            parts[split].append(pixels[(whole, part) if along else (part, whole)])
    return parts


def crops(parts: list[np.ndarray], n: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return `n` random crops, uint8 n×side×side×3, flipped half of the time."""
    found = []
    for index in range(n):
        part = parts[index % len(parts)]
        top, left = (int(rng.integers(length - side + 1)) for length in part.shape[:2])
        crop = part[top : top + side, left : left + side]
        found.append(crop[:, ::-1] if rng.integers(2) else crop)
    return np.stack(found)


def to_tensor(images: np.ndarray) -> Tensor:
    """Return uint8 images N×H×W×3 as float N×3×H×W on [−1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2) / 127.5 - 1


def fit_autoencoder(parts: list[np.ndarray]) -> Autoencoder:
    """Train the autoencoder on random crops of the training regions."""
    torch.manual_seed(0)
    network, rng = Autoencoder(), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, AUTOENCODER_STEPS)
    for _ in range(AUTOENCODER_STEPS):
        batch = to_tensor(crops(parts, 8, AUTOENCODER_CROP, rng))
        loss = (network(batch) - batch).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def reconstructed(network: Autoencoder, image: np.ndarray) -> np.ndarray:
    """Return an image (uint8 H×W×3) after the autoencoder."""
    return ((network(to_tensor(image[None]))[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def make_folder(folder: Path, size: int, counts: dict[str, int], network: Autoencoder) -> None:
    """Write the data set of one size, with folders train and test."""
    rng = np.random.default_rng(size)
    with atomic_dir(folder) as partial:
        for split, parts in regions().items():
            for label in ("FAKE", "REAL"):
                (partial / split / label).mkdir(parents=True)
            for number, real in enumerate(crops(parts, counts[split], size, rng)):
                for label, image in (("REAL", real), ("FAKE", reconstructed(network, real))):
                    Image.fromarray(image).save(partial / split / label / f"crop{number:05d}.png")


def measure(folder: Path, size: int, epochs: int, from_file: bool) -> dict[str, object]:
    """Pack, train, export and predict in this process; return what came of it."""
    memory = PeakMemory()
    start = time.perf_counter()
    pack = pack_dataset(open_source(str(folder), folder), folder.with_name(f"pack {size}"), progress=False,
                        image_size=size, resize="crop")  # fmt: skip
    packing = len(pack.records) / (time.perf_counter() - start)
    if from_file:
        batches.RESIDENT = 0
    settings = Settings(
        network="texture_net", epochs=epochs, batch_size=32, muon_lr=0.1, lr=0.004, weight_decay=0.02, dropout=0.0,
        label_smoothing=0.0, flip=True, translate=2, corruption_prob=0.0, hflip_tta=False, max_train_samples=0, seed=0,
        precision="float32", accelerator="cpu", threads=0,
    )  # fmt: skip
    run = folder.with_name(f"run {size} {'file' if from_file else 'memory'}")
    trained = train(pack, settings, run, "disabled", progress=False)
    record = read_json(run / "run.json")
    table, _ = predict(trained, pack, ("test",), "cpu", progress=False)
    export_onnx(trained, run / "model.onnx")
    file = next((folder / "test" / "FAKE").iterdir())
    served = Predictor(run / "model.onnx").predict(decode_image(file.read_bytes(), InputRule(size, 2)).pixels[None])
    metrics = evaluate(table)
    n = len(pack.indices("train"))
    return {
        "size": size, "from_file": from_file, "train_images": n, "epochs": epochs, "macs": record["macs"],
        "accuracy": metrics["accuracy"], "pack_bytes": pack.packed.nbytes,
        "packed_per_second": packing, "trained_per_second": n * epochs / record["train_seconds"],
        **memory.stop(),
        "served": served[0].prediction, "threads": torch.get_num_threads(), "cores": joblib.cpu_count(),
        "processor": processor(), "git_commit": git_commit(),
    }  # fmt: skip


class PeakMemory:
    """Sample the memory of this process twenty times a second."""

    def __init__(self) -> None:
        self._peaks = {"RssAnon": 0, "VmHWM": 0}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._end.wait(0.05):
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in self._peaks:
                    self._peaks[name] = max(self._peaks[name], int(value.split()[0]))

    def stop(self) -> dict[str, float]:
        """Return the peaks in MB."""
        self._end.set()
        self._thread.join()
        return {"peak_anonymous": self._peaks["RssAnon"] / 1e3, "peak_resident": self._peaks["VmHWM"] / 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "benchmarks" / "own_images")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--train", type=int, default=600, help="training crops of each class")
    parser.add_argument("--test", type=int, default=150, help="test crops of each class")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    output = given.output.resolve()
    if given.measure:
        size, from_file = int(given.measure[0]), given.measure[1] == "file"
        print(json.dumps(measure(output / f"{size} pixels", size, given.epochs, from_file)))
        return
    results, network = [], None
    for size in given.sizes:
        folder = output / f"{size} pixels"
        if not folder.is_dir():
            network = network or fit_autoencoder(regions()["train"])
            make_folder(folder, size, {"train": given.train, "test": given.test}, network)
        for where in ("memory", "file"):
            path = output / f"{size} {where}.json"
            if not path.is_file():
                command = [sys.executable, __file__, "--output", str(output), "--epochs", str(given.epochs)]
                run = subprocess.run([*command, "--measure", str(size), where], capture_output=True, text=True)
                if run.returncode:
                    sys.exit(run.stderr)
                write_json(path, json.loads(run.stdout.splitlines()[-1]))
            results.append(read_json(path))
            print(table_of(results).to_string(index=False), flush=True)


def table_of(results: list[dict]) -> pd.DataFrame:
    """Format the results: a row each."""
    return pd.DataFrame([
        {
            "size": f"{it['size']}×{it['size']}", "images read from": "file" if it["from_file"] else "memory",
            "training images": it["train_images"], "pack (MB)": f"{it['pack_bytes'] / 1e6:.0f}",
            "packed (images/s)": f"{it['packed_per_second']:.0f}",
            "trained (images/s)": f"{it['trained_per_second']:.0f}",
            "peak memory of its own (MB)": f"{it['peak_anonymous']:.0f}",
            "peak resident (MB)": f"{it['peak_resident']:.0f}",
            "test accuracy": "{:.1f} % [{:.1f}, {:.1f}] of {n:,}".format(
                *(100 * it["accuracy"][key] for key in ("value", "ci_low", "ci_high")), n=it["accuracy"]["n"]),
        }
        for it in results
    ])  # fmt: skip


if __name__ == "__main__":
    main()

"""The sample: layout, encoding, determinism, planted duplicates, and what must not separate the classes."""

import io
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.core.files import ROOT
from lib.data import sample
from lib.data.dataset import PackedDataset

FOLDERS = {"train/FAKE": 1500, "train/REAL": 1500, "test/FAKE": 500, "test/REAL": 500}
SUFFIXES = ["", *(f" ({k})" for k in range(2, 11))]
SCRIPT = "import sys, pathlib, lib.data.sample as s; s.make_sample(pathlib.Path(sys.argv[1]))"


@pytest.fixture(scope="module")
def folder(sample_dataset: PackedDataset) -> Path:
    return Path(sample_dataset.metadata["location"])


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, bytes]:
    return _read(folder)


@pytest.fixture(scope="module")
def images(files: dict[str, bytes]) -> dict[str, np.ndarray]:
    return {name: np.asarray(Image.open(io.BytesIO(content))) for name, content in files.items()}


def _read(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_counts_and_names_equal_those_of_kaggle(files: dict[str, bytes]) -> None:
    numbers = {
        "train/FAKE": [str(n) for n in range(1000, 1150)],
        "train/REAL": [f"{n:04d}" for n in range(150)],
        "test/FAKE": [str(n) for n in range(50)],
        "test/REAL": [f"{n:04d}" for n in range(50)],
    }
    expected = {f"{at}/{n}{suffix}.jpg" for at in FOLDERS for n in numbers[at] for suffix in SUFFIXES}
    assert set(files) == expected
    assert Counter(name.rpartition("/")[0] for name in files) == FOLDERS


def test_no_other_file_is_left_in_or_beside_the_sample(folder: Path) -> None:
    assert {path.name for path in folder.parent.iterdir()} == {"source", "dataset"}
    assert {path.name for path in folder.iterdir()} == {"train", "test"}


def test_every_file_is_encoded_as_in_cifake(files: dict[str, bytes]) -> None:
    luma = [16, 11, 10, 16, 24, 40, 51, 61]  # first row of ITU-T T.81, table K.1; quality 75 halves it
    for content in files.values():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (32, 32), "RGB")
            assert image.quantization[0][:8] == [(value * 50 + 50) // 100 for value in luma]
            assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]
            assert not image.info.get("progressive")


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_another_process_writes_the_same_bytes(tmp_path: Path, files: dict[str, bytes], threads: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "sample")], cwd=ROOT, env=environment, check=True)
    assert _read(tmp_path / "sample") == files


def test_only_the_documented_fakes_are_duplicates(images: dict[str, np.ndarray]) -> None:
    groups: dict[bytes, list[str]] = defaultdict(list)
    for name, pixels in images.items():
        groups[pixels.tobytes()].append(name)
    duplicates = [names for names in groups.values() if len(names) > 1]
    assert all(len(names) == 2 for names in duplicates)
    assert Counter(tuple(sorted(name.rpartition("/")[0] for name in names)) for names in duplicates) == {
        ("train/FAKE", "train/FAKE"): 15,
        ("test/FAKE", "train/FAKE"): 8,
        ("test/FAKE", "test/FAKE"): 2,
    }
    for first, second in duplicates:
        assert first.partition(" ")[2] == second.partition(" ")[2]


def test_train_and_test_regions_are_disjoint() -> None:
    for name, regions in sample.REGIONS.items():
        (left, _, right, _), (other_left, _, other_right, _) = regions["train"], regions["test"]
        assert left - other_right >= 16 or other_left - right >= 16
        with sample.open_photo(name) as photo:
            assert all(box[2] <= photo.width and box[3] <= photo.height for box in regions.values())


def test_crops_stay_inside_their_region() -> None:
    region = Image.new("RGB", (96, 80), (9, 9, 9))
    rng = np.random.default_rng(0)
    for _ in range(50):  # a pixel from outside the region would be black
        assert (sample._draw_crop(region, rng, 1.5, 2.5) == 9).all()


def test_mean_colour_does_not_separate_the_classes(images: dict[str, np.ndarray]) -> None:
    def split(wanted: str) -> tuple[np.ndarray, np.ndarray]:
        selected = [(pixels, "REAL" in name) for name, pixels in images.items() if name.startswith(wanted)]
        return np.stack([pixels.mean((0, 1)) for pixels, _ in selected]), np.array([y for _, y in selected])

    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(*split("train"))
    assert model.score(*split("test")) < 0.60


def test_fakes_lack_fine_detail_on_average(images: dict[str, np.ndarray]) -> None:
    def power(label: str) -> tuple[float, float]:
        grey = np.stack([pixels.mean(2) for name, pixels in images.items() if f"train/{label}" in name])
        spectrum = (np.abs(np.fft.fft2(grey)) ** 2).mean(0)
        return float(spectrum[1:4, 1:4].mean()), float(spectrum[10:23, 10:23].mean())

    (fake_low, fake_high), (real_low, real_high) = power("FAKE"), power("REAL")
    assert 0.8 < fake_low / real_low < 1.25
    assert 0.05 < fake_high / real_high < 0.6

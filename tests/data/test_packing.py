"""Packing: content, metadata, splits, and atomic writes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import encoded, zipped
from PIL import Image

from lib import CLASSES
from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.data.dataset import PackedDataset, open_dataset, sample_size
from lib.data.packing import pack_dataset
from lib.data.records import MIN_IMAGES, build_records
from lib.data.source import ImageRecord, open_source

PIXELS = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)


def packed(folder: Path, **options: object) -> PackedDataset:
    source = open_source(str(folder), folder.parent / "sample")
    return pack_dataset(source, folder.parent / "dataset", progress=False, **options)


def test_pixels_equal_those_of_the_files(tiny: Path) -> None:
    dataset = packed(tiny, val_fraction=0.5)
    for index in (0, 37, 79):
        with Image.open(tiny / dataset.records["file"][index]) as image:
            assert (dataset.images[index] == np.asarray(image)).all()
    train = dataset.images[dataset.indices("train")].reshape(-1, 3)
    np.testing.assert_allclose(dataset.metadata["mean"], train.mean(0), atol=1e-3)
    np.testing.assert_allclose(dataset.metadata["std"], train.std(0), atol=1e-3)


def test_metadata_and_leaks_of_the_sample(sample_dataset: PackedDataset) -> None:
    metadata = sample_dataset.metadata
    assert metadata["data"] == "sample"
    assert metadata["counts"] == {"train/FAKE": 1500, "train/REAL": 1500, "test/FAKE": 500, "test/REAL": 500}
    assert metadata["duplicates_within"] == {"train/FAKE": 15, "train/REAL": 0, "test/FAKE": 2, "test/REAL": 0}
    assert (metadata["test_leaked"], metadata["label_conflicts"]) == (8, 0)
    leaks = sample_dataset.records[sample_dataset.records["leaked"]]
    assert (leaks["split"] == "test").all()
    assert (sample_dataset.images[leaks.index] == sample_dataset.images[leaks["duplicate_of"]]).all()


def test_validation_is_stratified_and_shares_no_image_with_train(sample_dataset: PackedDataset) -> None:
    records = sample_dataset.records
    assert records["split"].value_counts().to_dict() == {"train": 2700, "test": 1000, "val": 300}
    assert (records[records["split"] == "val"].groupby(["label", "object_class"]).size() == 15).all()
    pixels = {
        split: {sample_dataset.images[index].tobytes() for index in sample_dataset.indices(split)}
        for split in ("train", "val")
    }
    assert not pixels["train"] & pixels["val"]


def test_the_split_seed_determines_the_split(tiny: Path) -> None:
    splits = [packed(tiny, val_fraction=0.5, split_seed=seed).records["split"].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_counts_do_not_depend_on_the_case_of_names(tiny: Path, change: Callable[[str], str]) -> None:
    expected = packed(tiny, val_fraction=0.5).metadata
    for split in ("train", "test"):
        for label in CLASSES:
            (tiny / split / label).rename(tiny / split / f"{label}.other")
            (tiny / split / f"{label}.other").rename(tiny / split / change(label))
    metadata = packed(tiny, val_fraction=0.5).metadata
    assert metadata["counts"] == dict.fromkeys(("train/FAKE", "train/REAL", "test/FAKE", "test/REAL"), 20)
    assert {**metadata, "location": ""} == {**expected, "location": ""}


def kept(tiny: Path, counts: dict[str, int]) -> None:
    """Leave in each folder of `counts`, such as "train/FAKE", its number of images."""
    for folder, count in counts.items():
        for file in sorted((tiny / folder).iterdir())[count:]:
            file.unlink()


@pytest.mark.parametrize(("count", "expected"), [(20, 2), (14, 1), (7, 1), (5, 1)])
def test_small_data_have_validation_images_of_both_classes(tiny: Path, count: int, expected: int) -> None:
    kept(tiny, {"train/FAKE": count, "train/REAL": 20})
    records = packed(tiny).records
    val = records[records["split"] == "val"]
    assert val["label"].value_counts().to_dict() == {0: expected, 1: 2}
    assert ((records["split"] == "train") & (records["label"] == 0)).sum() == count - expected


@pytest.mark.parametrize("size", [140, 1400])
def test_validation_is_as_large_as_asked(size: int) -> None:
    # 14 images in each of ten strata: a tenth of each, rounded, would be 7.1 % of all.
    objects = [f"object {i % 10}" for i in range(size)]
    records = [ImageRecord(str(i), split, label, name) for split in ("train", "test") for label in (0, 1)
               for i, name in enumerate(objects)]  # fmt: skip
    table = build_records(records, [str(i).encode() for i in range(len(records))], 0.1, 0)
    val = table[table["split"] == "val"]
    assert val["label"].value_counts().to_dict() == {0: size // 10, 1: size // 10}
    assert val.groupby(["label", "object_class"]).size().between(size // 100, size // 100 + 1).all()


@pytest.mark.parametrize("folder", ["train/FAKE", "train/REAL", "test/FAKE", "test/REAL"])
def test_the_minimum_is_stated(tiny: Path, folder: str) -> None:
    kept(tiny, {folder: MIN_IMAGES - 1})
    with pytest.raises(InputError, match=f"{folder} has 4 different images.*at least 5 are needed"):
        packed(tiny)


def test_copies_do_not_count_for_the_minimum(tiny: Path) -> None:
    for file in (tiny / "test" / "REAL").iterdir():
        file.write_bytes((tiny / "train" / "REAL" / file.name).read_bytes())
    with pytest.raises(InputError, match="test/REAL has 0 different images that are not in train too"):
        packed(tiny)


def test_a_class_of_few_groups_of_copies_has_validation_images(tiny: Path) -> None:
    files = sorted((tiny / "train" / "FAKE").iterdir())
    for index, file in enumerate(files):
        file.write_bytes(files[index % 5].read_bytes())
    records = packed(tiny).records
    val = records[records["split"] == "val"]
    assert val["label"].nunique() == 2
    assert not set(val["duplicate_of"]) & set(records.loc[records["split"] == "train", "duplicate_of"])


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these systems take valid names only")
def test_a_name_that_is_no_utf8_is_packed(tiny: Path) -> None:
    folder = os.fsencode(tiny / "train" / "REAL")
    os.rename(folder + b"/0.jpg", folder + b"/k\xe4se.jpg")  # noqa: PTH104
    dataset = packed(tiny)
    (index,) = dataset.records.index[dataset.records["file"] == r"train/REAL/k\xe4se.jpg"]
    with open(folder + b"/k\xe4se.jpg", "rb") as file, Image.open(file) as image:  # noqa: PTH123
        assert (dataset.images[index] == np.asarray(image)).all()


def test_balance_is_described_as_it_is(tiny: Path) -> None:
    text = packed(tiny).balance()
    assert text.startswith(
        "Both classes have the same number of test images, and so have the object classes within them"
    )
    assert "chance level is 50 %" in text and "majority" not in text
    kept(tiny, {"train/FAKE": 10, "test/FAKE": 5})
    text = packed(tiny).balance()
    assert text.startswith("Of the test images 5 are FAKE and 20 REAL. To predict always REAL, the majority class, has "
                           "an accuracy of 80.00 %")  # fmt: skip
    assert "for training and validation 10 are FAKE, 20 REAL" in text


def test_what_asks_for_more_than_there_is_takes_all_and_says_so() -> None:
    assert (sample_size("n", 0, 7), sample_size("n", 3, 7), sample_size("n", 7, 7)) == (7, 3, 7)
    with pytest.warns(UserWarning, match="max_n is 1,000, but there are 7 images: all are used"):
        assert sample_size("max_n", 1000, 7) == 7


def test_partial_data_is_named_partial(tiny: Path) -> None:
    assert packed(tiny, val_fraction=0.5).metadata["data"] == "partial CIFAKE (80 of 120,000 images)"


def test_other_colour_modes_are_converted_and_counted(tiny: Path) -> None:
    folder = tiny / "train" / "REAL"
    (folder / "0.jpg").write_bytes(encoded(PIXELS, mode="L"))
    (folder / "1.jpg").write_bytes(encoded(PIXELS, mode="CMYK"))
    (folder / "9.png").write_bytes(encoded(PIXELS, "PNG", "RGBA"))
    dataset = packed(tiny, val_fraction=0.5)
    assert dataset.metadata["converted"] == {"L": 1, "CMYK": 1, "RGBA": 1}
    (index,) = dataset.records.index[dataset.records["file"] == "train/REAL/9.png"]
    assert (dataset.images[index] == PIXELS).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", "cannot be used as an image"),
        (encoded(PIXELS)[:600], "cannot be used as an image"),
        (b"", "cannot be used as an image"),
    ],
    ids=["text", "truncated", "empty"],
)
def test_bad_image_is_named_and_the_old_dataset_kept(tiny: Path, content: bytes, message: str) -> None:
    before = sorted(packed(tiny, val_fraction=0.5).records["file"])
    (tiny / "test" / "FAKE" / "1 (3).jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"test/FAKE/1 \(3\).jpg {message}"):
        packed(tiny)
    assert sorted(open_dataset(tiny.parent / "dataset").records["file"]) == before
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny", "dataset"}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 0.001])
def test_impossible_val_fraction(tiny: Path, fraction: float) -> None:
    with pytest.raises(InputError, match="val_fraction"):
        packed(tiny, val_fraction=fraction)


SCRIPT = """
import sys
from pathlib import Path
from lib.data.packing import pack_dataset
from lib.data.source import open_source
source = open_source(sys.argv[1], Path("unused"))
pack_dataset(source, Path(sys.argv[2]), val_fraction=0.5, progress=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_full_disk(tiny: Path) -> None:
    # A limit of 100 kB a file stands in for a full disk.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    dataset = tiny.parent / "dataset"
    run = subprocess.run(
        [sys.executable, "-c", limit + SCRIPT, str(tiny), str(dataset)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "InputError: cannot write" in run.stderr
    assert "free some space" in run.stderr
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_rerun_after_a_kill(tiny: Path) -> None:
    # Decoding waits, so that the kill comes while the dataset is half-written.
    slow = "import time, lib.data.packing\nlib.data.packing.decode = lambda files, rule: time.sleep(60)\n"
    dataset, partial = tiny.parent / "dataset", tiny.parent / ".dataset.partial"
    process = subprocess.Popen([sys.executable, "-c", slow + SCRIPT, str(tiny), str(dataset)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (partial / "images.npy").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not dataset.exists()
    packed(tiny, val_fraction=0.5)
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny", "dataset"}


def test_damaged_dataset_is_refused(tiny: Path) -> None:
    packed(tiny, val_fraction=0.5)
    folder = tiny.parent / "dataset"
    records = pd.read_csv(folder / "records.csv")
    records.iloc[:-1].to_csv(folder / "records.csv", index=False)
    with pytest.raises(InputError, match="80 images but 79 records: run 01_data again"):
        open_dataset(folder)
    (folder / "images.npy").write_bytes(b"short")
    with pytest.raises(InputError, match=r"is damaged .*: run 01_data again"):
        open_dataset(folder)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.skipif("CIFAKE_ARCHIVE" not in os.environ, reason="CIFAKE_ARCHIVE does not name the full archive")
def test_full_archive(tmp_path: Path) -> None:
    """Pack all 120,000 images; the expected numbers were counted on the files by other means."""
    dataset = pack_dataset(open_source(os.environ["CIFAKE_ARCHIVE"], tmp_path), tmp_path / "dataset", progress=False)
    metadata = dataset.metadata
    assert (metadata["data"], metadata["verified"]) == ("CIFAKE", True)
    assert metadata["counts"] == {"train/FAKE": 50_000, "train/REAL": 50_000, "test/FAKE": 10_000, "test/REAL": 10_000}
    assert metadata["distinct"] == {"train/FAKE": 49_080, "train/REAL": 50_000, "test/FAKE": 9_962, "test/REAL": 10_000}
    assert (metadata["test_leaked"], metadata["label_conflicts"]) == (378, 0)
    assert metadata["converted"] == {}
    val = dataset.records[dataset.records["split"] == "val"]
    assert abs(len(val) - 10_000) <= 20
    assert not set(val["duplicate_of"]) & set(dataset.records.loc[dataset.indices("train"), "duplicate_of"])


def test_zip_and_folder_give_the_same_dataset(tiny: Path) -> None:
    folder = packed(tiny, val_fraction=0.5)
    source = open_source(str(zipped(tiny)), tiny)
    archive = pack_dataset(source, tiny.parent / "other", val_fraction=0.5, progress=False)
    assert folder.metadata["checksums"] == archive.metadata["checksums"]
    assert folder.records.equals(archive.records)

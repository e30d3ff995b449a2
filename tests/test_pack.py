"""Packing: what is in the pack, how it is split, and that nothing half-written ever stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import encoded, zipped
from PIL import Image

from lib.errors import InputError
from lib.files import ROOT
from lib.pack import Pack, open_pack
from lib.packing import build_pack
from lib.source import open_source

PIXELS = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)


def pack_of(folder: Path, **options: object) -> Pack:
    source = open_source(str(folder), folder.parent / "sample")
    return build_pack(source, folder.parent / "pack", progress=False, **options)


def test_pixels_are_those_of_the_files(tiny: Path) -> None:
    pack = pack_of(tiny, val_fraction=0.5)
    for row in (0, 37, 79):
        with Image.open(tiny / pack.index["file"][row]) as image:
            assert (pack.images[row] == np.asarray(image)).all()
    train = pack.images[pack.rows("train")].reshape(-1, 3)
    np.testing.assert_allclose(pack.facts["mean"], train.mean(0), atol=1e-3)
    np.testing.assert_allclose(pack.facts["std"], train.std(0), atol=1e-3)


def test_sample_is_named_counted_and_searched_for_twins(sample_pack: Pack) -> None:
    facts = sample_pack.facts
    assert facts["data"] == "sample"
    assert facts["counts"] == {"train/FAKE": 1500, "train/REAL": 1500, "test/FAKE": 500, "test/REAL": 500}
    assert facts["twins_inside"] == {"train/FAKE": 15, "train/REAL": 0, "test/FAKE": 2, "test/REAL": 0}
    assert (facts["test_in_train"], facts["in_both_classes"]) == (8, 0)
    leaks = sample_pack.index[sample_pack.index["in_train"]]
    assert (leaks["split"] == "test").all()
    assert (sample_pack.images[leaks.index] == sample_pack.images[leaks["twin"]]).all()


def test_validation_is_stratified_and_shares_no_image_with_train(sample_pack: Pack) -> None:
    index = sample_pack.index
    assert index["split"].value_counts().to_dict() == {"train": 2700, "test": 1000, "val": 300}
    assert (index[index["split"] == "val"].groupby(["label", "object_class"]).size() == 15).all()
    pixels = {
        split: {sample_pack.images[row].tobytes() for row in sample_pack.rows(split)} for split in ("train", "val")
    }
    assert not pixels["train"] & pixels["val"]


def test_another_seed_splits_otherwise_and_the_same_seed_alike(tiny: Path) -> None:
    splits = [pack_of(tiny, val_fraction=0.5, split_seed=seed).index["split"].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_partial_data_is_said_to_be_partial(tiny: Path) -> None:
    assert pack_of(tiny, val_fraction=0.5).facts["data"] == "partial CIFAKE (80 of 120,000 images)"


def test_other_colour_modes_are_converted_and_counted(tiny: Path) -> None:
    folder = tiny / "train" / "REAL"
    (folder / "0.jpg").write_bytes(encoded(PIXELS, mode="L"))
    (folder / "1.jpg").write_bytes(encoded(PIXELS, mode="CMYK"))
    (folder / "9.png").write_bytes(encoded(PIXELS, "PNG", "RGBA"))
    pack = pack_of(tiny, val_fraction=0.5)
    assert pack.facts["converted"] == {"L": 1, "CMYK": 1, "RGBA": 1}
    row = pack.index.index[pack.index["file"] == "train/REAL/9.png"][0]
    assert (pack.images[row] == PIXELS).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", "cannot be read as an image"),
        (encoded(PIXELS)[:600], "cannot be read as an image"),
        (b"", "cannot be read as an image"),
        (encoded(PIXELS[:31]), "is 32×31, not 32×32"),
    ],
    ids=["text", "truncated", "empty", "wrong size"],
)
def test_bad_image_is_named_and_no_pack_is_left(tiny: Path, content: bytes, message: str) -> None:
    before = sorted(pack_of(tiny, val_fraction=0.5).index["file"])
    (tiny / "test" / "FAKE" / "1 (3).jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"test/FAKE/1 \(3\).jpg {message}"):
        pack_of(tiny)
    # The pack of the run before is untouched, and nothing lies beside it.
    assert sorted(open_pack(tiny.parent / "pack").index["file"]) == before
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny", "pack"}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 0.001])
def test_impossible_validation_share(tiny: Path, fraction: float) -> None:
    with pytest.raises(InputError, match="val_fraction"):
        pack_of(tiny, val_fraction=fraction)


SCRIPT = """
import sys
from pathlib import Path
from lib.packing import build_pack
from lib.source import open_source
source = open_source(sys.argv[1], Path("unused"))
build_pack(source, Path(sys.argv[2]), val_fraction=0.5, progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_full_disk(tiny: Path) -> None:
    # The system refuses to write more than 100 kB into one file, as a full disk would.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    pack = tiny.parent / "pack"
    run = subprocess.run(
        [sys.executable, "-c", limit + SCRIPT, str(tiny), str(pack)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "InputError: cannot write" in run.stderr
    assert "free some space" in run.stderr
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny"}


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_kill_while_packing_then_a_rerun(tiny: Path) -> None:
    # Decoding waits, so that the kill comes when the pack is half-written.
    slow = "import time, lib.decode, lib.packing\nlib.packing.decode = lambda files: time.sleep(60)\n"
    pack, partial = tiny.parent / "pack", tiny.parent / ".pack.partial"
    process = subprocess.Popen([sys.executable, "-c", slow + SCRIPT, str(tiny), str(pack)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (partial / "images.npy").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not pack.exists()
    pack_of(tiny, val_fraction=0.5)
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny", "pack"}


def test_damaged_pack_is_refused(tiny: Path) -> None:
    pack_of(tiny, val_fraction=0.5)
    folder = tiny.parent / "pack"
    index = pd.read_csv(folder / "index.csv")
    index.iloc[:-1].to_csv(folder / "index.csv", index=False)
    with pytest.raises(InputError, match="80 images and 79 rows"):
        open_pack(folder)
    (folder / "images.npy").write_bytes(b"short")
    with pytest.raises(InputError, match="is damaged"):
        open_pack(folder)


@pytest.mark.full
@pytest.mark.skipif("CIFAKE_ARCHIVE" not in os.environ, reason="CIFAKE_ARCHIVE does not name the full archive")
def test_full_archive(tmp_path: Path) -> None:
    """Pack all 120,000 images; their facts were counted on the files by other means."""
    pack = build_pack(open_source(os.environ["CIFAKE_ARCHIVE"], tmp_path), tmp_path / "pack", progress=False)
    facts = pack.facts
    assert (facts["data"], facts["verified"]) == ("CIFAKE", True)
    assert facts["counts"] == {"train/FAKE": 50_000, "train/REAL": 50_000, "test/FAKE": 10_000, "test/REAL": 10_000}
    assert facts["distinct"] == {"train/FAKE": 49_080, "train/REAL": 50_000, "test/FAKE": 9_962, "test/REAL": 10_000}
    assert (facts["test_in_train"], facts["in_both_classes"]) == (378, 0)
    assert facts["converted"] == {}
    val = pack.index[pack.index["split"] == "val"]
    assert abs(len(val) - 10_000) <= 20
    assert not set(val["twin"]) & set(pack.index.loc[pack.rows("train"), "twin"])


def test_zip_and_folder_make_the_same_pack(tiny: Path) -> None:
    folder = pack_of(tiny, val_fraction=0.5)
    source = open_source(str(zipped(tiny)), tiny)
    archive = build_pack(source, tiny.parent / "other", val_fraction=0.5, progress=False)
    assert folder.facts["checksums"] == archive.facts["checksums"]
    assert folder.index.equals(archive.index)

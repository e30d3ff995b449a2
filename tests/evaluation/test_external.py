"""Labelled images of any origin: the figures of each set, what is left out of them, and how they are shown."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import encoded, zipped
from PIL import Image
from scipy import special

from lib import CLASSES
from lib.core import file_set
from lib.core.errors import InputError
from lib.core.input_rule import InputRule
from lib.core.labelled import open_labelled
from lib.core.pixel_hash import pixel_hash, read_hashes, save_hashes
from lib.evaluation.external import evaluate_network, evaluate_path, evaluate_sets, predict_sets
from lib.evaluation.external_table import sets_table, write_sets_csv
from lib.evaluation.metrics import proportion
from lib.evaluation.predictions import run_network
from lib.inference.drift import DriftTest, image_statistics
from lib.inference.images import decode_image
from lib.inference.out_of_distribution import fit_distance
from lib.inference.predictor import Calibration, Prediction, default_model_path
from lib.models.networks import build_network
from lib.plots.external import external_sets, save_external_sets

RNG = np.random.default_rng(0)
LEVELS = {"sd/FAKE": (90, 250), "gan/FAKE": (60, 130), "photo/REAL": (10, 120), "other/REAL": (100, 200)}


def predict(pixels: np.ndarray) -> list[Prediction]:
    """Call an image FAKE that is brighter than 100, the surer the brighter; UNSURE near that."""
    margins = (pixels.mean((1, 2, 3)) - 100) / 20
    return Calibration(selective_threshold=0.6).predictions(pixels, margins.tolist())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write four sets of 20 noisy images around levels of grey, of 32×32 but for one set; return the folder."""
    for name, (low, high) in LEVELS.items():
        size = 48 if name == "gan/FAKE" else 32
        for number, level in enumerate(np.linspace(low, high, 20)):
            pixels = np.clip(level + RNG.normal(0, 3, (size, size, 3)), 0, 255).round().astype(np.uint8)
            file = tmp_path / "own" / name / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(pixels, "PNG"))
    return tmp_path / "own"


def judged(path: Path, **options: object) -> dict[str, dict]:
    """Return the figures by set."""
    images = open_labelled(path)
    return {
        entry["set"]: entry
        for entry in evaluate_sets(predict_sets(images, predict, InputRule()), images, **options)["sets"]
    }


def levels(folder: Path, name: str) -> np.ndarray:
    return np.array(
        [decode_image(file.read_bytes(), InputRule()).pixels.mean() for file in sorted((folder / name).iterdir())]
    )


@pytest.mark.parametrize("as_zip", [False, True])
def test_figures_of_each_set(folder: Path, as_zip: bool) -> None:
    sets = judged(zipped(folder) if as_zip else folder)
    assert {title: (entry["class"], entry["n"]) for title, entry in sets.items()} == {
        "sd": ("FAKE", 20), "gan": ("FAKE", 20), "photo": ("REAL", 20), "other": ("REAL", 20),
    }  # fmt: skip
    real = np.concatenate([levels(folder, "photo/REAL"), levels(folder, "other/REAL")])
    for name in LEVELS:
        own, entry = levels(folder, name), sets[name.partition("/")[0]]
        assert entry["called_fake"] == proportion((own > 100).sum(), 20)
        confidence = special.expit(np.abs(own - 100) / 20)
        assert entry["withheld"] == proportion((confidence < 0.6).sum(), 20)
        assert entry["out_of_distribution"] is entry["drift_p_value"] is None, "no threshold, no reference"
        if entry["class"] == "REAL":
            assert entry["roc_auc"] is None
        else:
            auc = (own[:, None] > real).mean()
            assert entry["roc_auc"]["value"] == pytest.approx(auc, abs=1e-6)
            assert entry["roc_auc"]["ci_low"] < auc < entry["roc_auc"]["ci_high"]


def test_auc_is_against_the_set_that_is_named(folder: Path) -> None:
    photo = judged(folder, against="photo")["sd"]["roc_auc"]
    expected = (levels(folder, "sd/FAKE")[:, None] > levels(folder, "photo/REAL")).mean()
    assert photo["value"] == pytest.approx(expected, abs=1e-6)
    assert photo["n"] == 40
    for wrong in ("fotos", "sd"):
        with pytest.raises(InputError, match=f"'{wrong}' is no set with REAL images"):
            judged(folder, against=wrong)


def test_pooled_shares_leave_out_the_photographs_of_the_known_kind(folder: Path) -> None:
    images = open_labelled(folder)
    pooled = evaluate_sets(predict_sets(images, predict, InputRule()), images, against="photo")["pooled"]
    fake = np.concatenate([levels(folder, "sd/FAKE"), levels(folder, "gan/FAKE")])
    assert pooled["FAKE"] == proportion((fake > 100).sum(), 40)
    assert pooled["REAL"] == proportion((levels(folder, "other/REAL") > 100).sum(), 20)


def test_one_image_and_one_class_have_no_auc(folder: Path) -> None:
    for name in ("gan", "photo", "other"):
        for file in (folder / name).rglob("*.png"):
            file.unlink()
    for number in range(1, 20):
        (folder / "sd" / "FAKE" / f"{number:02}.png").unlink()
    images = open_labelled(folder)
    result = evaluate_sets(predict_sets(images, predict, InputRule()), images)
    (entry,) = result["sets"]
    assert (entry["n"], entry["roc_auc"], result["overall"]) == (1, None, None)
    assert "1 images" in sets_table(result)


def test_training_images_and_those_in_both_classes_are_left_out(folder: Path, tmp_path: Path) -> None:
    names = sorted((folder / "gan" / "FAKE").iterdir())
    known = np.stack([decode_image(file.read_bytes(), InputRule()).pixels for file in names[:3]])
    save_hashes(tmp_path / "h.npy", known)
    (folder / "photo" / "REAL" / "copy.png").write_bytes((folder / "sd" / "FAKE" / "00.png").read_bytes())
    images = open_labelled(folder)
    result = evaluate_sets(predict_sets(images, predict, InputRule()), images, training=read_hashes(tmp_path / "h.npy"))
    sets = {entry["set"]: entry for entry in result["sets"]}
    assert (sets["gan"]["n"], sets["gan"]["training_images"], result["training_images"]) == (17, 3, 3)
    assert (sets["sd"]["n"], sets["photo"]["n"]) == (19, 20)
    assert sorted(result["in_both_classes"]) == ["photo/REAL/copy.png", "sd/FAKE/00.png"]
    text = sets_table(result)
    assert "left out: 3 images that are the network's training images" in text
    assert "left out: 2 images that are in both classes (photo/REAL/copy.png, sd/FAKE/00.png)" in text
    assert "overlap was not looked for" in sets_table(evaluate_sets(predict_sets(images, predict, InputRule()), images))
    (tmp_path / "h.npy").write_bytes(b"no")
    with pytest.raises(InputError, match="holds no hashes of images"):
        read_hashes(tmp_path / "h.npy")


def test_drift_is_that_of_the_whole_set(folder: Path) -> None:
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted((folder / "photo/REAL").iterdir())])
    predicted = np.array([CLASSES.index(prediction.prediction) for prediction in predict(pixels)])
    known = np.tile(image_statistics(pixels), (40, 1))  # a class is tested from a hundred known images on
    drift = DriftTest(known, np.tile(predicted, 40))
    sets = judged(folder, drift=drift)
    assert sets["photo"]["drift_p_value"] == 1
    assert sets["sd"]["drift_p_value"] < 0.001


def test_each_image_is_encoded_first_where_that_is_asked_for(folder: Path) -> None:
    images = open_labelled(folder)
    plain, encoded_first = (
        predict_sets(images, predict, InputRule()),
        predict_sets(images, predict, InputRule(), jpeg=10),
    )
    assert (plain["hash"] == encoded_first["hash"]).all(), "the overlap is looked for before"
    assert encoded_first["finest detail"].mean() < 0.7 * plain["finest detail"].mean()
    with pytest.raises(InputError, match="jpeg is 0: give a quality from 1 to 95"):
        predict_sets(images, predict, InputRule(), jpeg=0)


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "sd" / "FAKE" / "bad.png").write_bytes(b"no")
    images = open_labelled(folder)
    result = evaluate_sets(predict_sets(images, predict, InputRule()), images)
    assert list(result["unreadable"]) == ["sd/FAKE/bad.png"]
    assert result["n"] == 80


def test_where_nothing_can_be_read_the_first_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "own" / "FAKE").mkdir(parents=True)
    (tmp_path / "own" / "FAKE" / "bad.png").write_bytes(b"no")
    images = open_labelled(tmp_path / "own")
    with pytest.raises(InputError, match=r"no image can be read; of FAKE/bad\.png: the file is no image"):
        evaluate_sets(predict_sets(images, predict, InputRule()), images)


def test_a_network_in_training_is_evaluated_like_an_exported_one(folder: Path) -> None:
    torch.manual_seed(0)
    network = build_network("plain_16_32", [0.0] * 3, [255.0] * 3, hflip_tta=False)
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted((folder / "photo/REAL").iterdir())])
    hashes = np.array([pixel_hash(image) for image in pixels[:5]], np.uint64)
    calibration = Calibration(2.0, 0.6, fit_distance(pixels, np.ones(20)))
    result = evaluate_network(network, calibration, 1, folder, hashes, None, "cpu")
    sets = {entry["set"]: entry for entry in result["sets"]}
    assert (sets["photo"]["n"], sets["photo"]["training_images"]) == (15, 5)
    logits = run_network(network, torch.from_numpy(pixels), progress=False).logits
    assert sets["photo"]["called_fake"]["value"] == (logits[5:, 0] > logits[5:, 1]).mean()
    assert sets["sd"]["out_of_distribution"]["value"] > sets["photo"]["out_of_distribution"]["value"]


def test_a_bomb_in_a_zip_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_set, "MAX_BYTES", 100_000)
    (folder / "sd" / "FAKE" / "bomb.png").write_bytes(encoded(np.zeros((2, 2, 3), np.uint8), "PNG") + bytes(100_000))
    images = open_labelled(zipped(folder))
    result = evaluate_sets(predict_sets(images, predict, InputRule()), images)
    assert "more than an image should have" in result["unreadable"]["sd/FAKE/bomb.png"]


def test_csv_and_figure_show_what_the_table_has(folder: Path, tmp_path: Path) -> None:
    (folder / "sets.csv").write_text("set,generator\nsd,diffusion\n")
    result = evaluate_path(folder, default_model_path(), against="photo")
    write_sets_csv(tmp_path / "sets.csv", result)
    rows = list(csv.DictReader((tmp_path / "sets.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["set"], row["class"]) for row in rows] == [(e["set"], e["class"]) for e in result["sets"]]
    sd = next(row for row in rows if row["set"] == "sd")
    entry = next(it for it in result["sets"] if it["set"] == "sd")
    assert float(sd["called_fake"]) == entry["called_fake"]["value"]
    assert float(sd["roc_auc_high"]) == entry["roc_auc"]["ci_high"]
    assert sd["description"] == "diffusion"
    assert set(CLASSES) == {row["class"] for row in rows}
    called, auc, _ = external_sets(result).axes
    assert len(called.get_yticklabels()) == 4
    assert len(auc.lines) == 2 * 2 + 1, "two sets of FAKE with whiskers, and the line of chance"
    save_external_sets(tmp_path / "sets.png", result)
    assert Image.open(tmp_path / "sets.png").width > 600

"""Predictions: one pass, a table that is restored exactly, and refused for other data or weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.core.errors import InputError
from lib.data.dataset import PackedDataset
from lib.evaluation.predictions import IMAGE_COLUMNS, LOGITS, TTA_LOGITS, load_predictions, predict, save_predictions
from lib.models.networks import build_network


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def predictions(sample_dataset: PackedDataset) -> pd.DataFrame:
    records = sample_dataset.records[sample_dataset.records["split"] != "train"].reset_index(drop=True)
    logits = np.random.default_rng(0).normal(size=(len(records), 2)).astype(np.float32)
    return records[IMAGE_COLUMNS].assign(**dict(zip(LOGITS, logits.T, strict=True)))


def test_predictions_are_restored_exactly(
    predictions: pd.DataFrame, sample_dataset: PackedDataset, weights: Path
) -> None:
    path = weights.with_name("p.csv")
    save_predictions(path, predictions, sample_dataset, weights)
    loaded = load_predictions(path, sample_dataset, weights)
    assert (loaded[LOGITS].to_numpy(np.float32) == predictions[LOGITS].to_numpy()).all()
    assert loaded.drop(columns=LOGITS).equals(predictions.drop(columns=LOGITS))


def test_invalid_predictions_are_refused(
    predictions: pd.DataFrame, sample_dataset: PackedDataset, weights: Path
) -> None:
    path = weights.with_name("p.csv")
    bad = {
        "not finite": predictions.assign(logit_FAKE=np.nan),
        "no column 'label'": predictions.drop(columns="label"),
        "999 test images of 2 classes, not the 1000": predictions.drop(index=predictions.index[-1]),
        "0 val images of 0 classes": predictions[predictions["split"] == "test"],
        "1000 test images of 1 classes": predictions.assign(label=0).where(predictions["split"] == "test", predictions),
    }
    for message, content in bad.items():
        save_predictions(path, content, sample_dataset, weights)
        with pytest.raises(InputError, match=message):
            load_predictions(path, sample_dataset, weights)
    with pytest.raises(InputError, match="is missing: run 04_evaluate"):
        load_predictions(weights.with_name("none.csv"), sample_dataset, weights)


def test_predictions_of_other_data_or_weights_are_refused(
    predictions: pd.DataFrame, sample_dataset: PackedDataset, weights: Path
) -> None:
    path = weights.with_name("p.csv")
    save_predictions(path, predictions, sample_dataset, weights)
    other = replace(sample_dataset, metadata={**sample_dataset.metadata, "checksums": {"train": "0", "test": "0"}})
    with pytest.raises(InputError, match=r"p\.csv is not of this dataset \(other checksums\)"):
        load_predictions(path, other, weights)
    weights.write_bytes(b"others")
    with pytest.raises(InputError, match=r"p\.csv is not of the weights .*: run the notebook that writes it again"):
        load_predictions(path, sample_dataset, weights)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"p\.json is missing"):
        load_predictions(path, sample_dataset, weights)


@pytest.mark.parametrize("hflip_tta", [False, True])
def test_logits_with_and_without_flip_tta(sample_dataset: PackedDataset, hflip_tta: bool) -> None:
    torch.manual_seed(0)
    network = build_network("plain_16_32", [120.0] * 3, [60.0] * 3, hflip_tta=hflip_tta)
    table, features = predict(network, sample_dataset, ("val",), "cpu", progress=False, tta=True)
    x = torch.from_numpy(sample_dataset.images[sample_dataset.indices("val")]).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits, without = network.eval()(x).numpy(), network.backbone(network.normalise(x)).numpy()
    np.testing.assert_allclose(table[LOGITS], logits, atol=1e-5)
    without_tta, with_tta = (table[columns].to_numpy() for columns in TTA_LOGITS.values())
    np.testing.assert_allclose(without_tta, without, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(network.backbone[-1](torch.from_numpy(features)), without, atol=1e-5)
        flipped = network.with_hflip_tta(False)(x.flip(3)).numpy()
    np.testing.assert_allclose(with_tta, (without_tta + flipped) / 2, atol=1e-5)
    assert not np.allclose(without_tta, with_tta, atol=1e-4)
    assert np.array_equal(table[LOGITS], with_tta if hflip_tta else without_tta)

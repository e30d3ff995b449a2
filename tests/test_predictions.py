"""Predictions: one pass, a table that comes back exactly, and only of its own data and weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.errors import InputError
from lib.networks import build_network
from lib.pack import Pack
from lib.predictions import LOGITS, VIEWS, load_predictions, predict, save_predictions


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def predictions(sample_pack: Pack) -> pd.DataFrame:
    index = sample_pack.index[sample_pack.index["split"] != "train"].reset_index(drop=True)
    logits = np.random.default_rng(0).normal(size=(len(index), 2)).astype(np.float32)
    kept = index[["file", "split", "label", "object_class", "in_train"]]
    return kept.assign(**dict(zip(LOGITS, logits.T, strict=True)))


def test_predictions_come_back_exactly(predictions: pd.DataFrame, sample_pack: Pack, weights: Path) -> None:
    path = weights.with_name("p.csv")
    save_predictions(path, predictions, sample_pack, weights)
    loaded = load_predictions(path, sample_pack, weights)
    assert (loaded[LOGITS].to_numpy(np.float32) == predictions[LOGITS].to_numpy()).all()
    assert loaded.drop(columns=LOGITS).equals(predictions.drop(columns=LOGITS))


def test_predictions_that_cannot_be_right_are_refused(
    predictions: pd.DataFrame, sample_pack: Pack, weights: Path
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
        save_predictions(path, content, sample_pack, weights)
        with pytest.raises(InputError, match=message):
            load_predictions(path, sample_pack, weights)
    with pytest.raises(InputError, match="is missing: run 04_evaluate"):
        load_predictions(weights.with_name("none.csv"), sample_pack, weights)


def test_predictions_of_other_data_or_weights_are_refused(
    predictions: pd.DataFrame, sample_pack: Pack, weights: Path
) -> None:
    path = weights.with_name("p.csv")
    save_predictions(path, predictions, sample_pack, weights)
    other = replace(sample_pack, facts={**sample_pack.facts, "checksums": {"train": "0", "test": "0"}})
    with pytest.raises(InputError, match=r"p\.csv is not of this pack \(its checksums differs\)"):
        load_predictions(path, other, weights)
    weights.write_bytes(b"others")
    with pytest.raises(InputError, match=r"p\.csv is not of the weights .*: run the notebook that writes it again"):
        load_predictions(path, sample_pack, weights)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"p\.json is missing"):
        load_predictions(path, sample_pack, weights)


@pytest.mark.parametrize("mirror", [False, True])
def test_answer_is_what_one_view_or_two_say(sample_pack: Pack, mirror: bool) -> None:
    torch.manual_seed(0)
    network = build_network("plain_16_32", [120.0] * 3, [60.0] * 3, mirror=mirror)
    table, features = predict(network, sample_pack, ("val",), "cpu", progress=False, views=True)
    x = torch.from_numpy(sample_pack.images[sample_pack.rows("val")]).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits, alone = network.eval()(x).numpy(), network.body(network.normalise(x)).numpy()
    np.testing.assert_allclose(table[LOGITS], logits, atol=1e-5)
    one, two = (table[columns].to_numpy() for columns in VIEWS.values())
    np.testing.assert_allclose(one, alone, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(network.body[-1](torch.from_numpy(features)), alone, atol=1e-5)
        np.testing.assert_allclose(two, (one + network.with_mirror(False)(x.flip(3)).numpy()) / 2, atol=1e-5)
    assert not np.allclose(one, two, atol=1e-4)
    assert np.array_equal(table[LOGITS], two if mirror else one)

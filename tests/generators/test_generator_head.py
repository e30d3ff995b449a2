from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.data.dataset import PackedDataset
from lib.evaluation.predictions import run_network
from lib.export.onnx_file import export_onnx
from lib.generators.detector import (
    all_statistics,
    check_photographs,
    fitted,
    head_fit,
    layer_statistics,
    leave_one_out,
    with_head,
)
from lib.generators.fakes import FAMILIES, Fakes, photographs
from lib.generators.foreign import as_foreign
from lib.generators.head import GeneratorHead, HeadFit, LayerStatistics
from lib.generators.recipe import load_recipe
from lib.models.networks import Network, build_network

JOINT = (1, 2, 3)  # one member, two labels, three object classes


def statistics(layers: torch.Tensor, fake: float = -4.0, certain: float = 0.0) -> torch.Tensor:
    """Return layer statistics N×F with a released margin of `fake`, and REAL objects that are `certain`."""
    joint = torch.full((len(layers), 6), -1e3)
    joint[:, 0] = fake
    joint[:, 3:] = torch.tensor([0.0, -certain, -certain])
    joint[:, 3:] -= joint[:, 3:].logsumexp(1, keepdim=True)
    return torch.cat([layers, joint], 1)


def drawn(n: int, shift: float, seed: int) -> torch.Tensor:
    layers = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    layers[:, 2] += shift
    return torch.cat([statistics(layers[i : i + 1], certain=1 + i % 7) for i in range(n)])


@pytest.fixture
def fit() -> HeadFit:
    return HeadFit(JOINT, drawn(200, 0, 1), {"up": drawn(100, 4, 2), "down": drawn(100, -4, 3)}, ridge=0.1)


def test_the_entropy_is_that_of_the_object_class_among_real() -> None:
    head = GeneratorHead(JOINT, 7)
    certain, even = statistics(torch.zeros(1, 5), certain=50), statistics(torch.zeros(1, 5), certain=0)
    assert head.entropy(certain).item() == pytest.approx(0, abs=1e-5)
    assert head.entropy(even).item() == pytest.approx(np.log(3), rel=1e-5)
    assert head.scores(statistics(torch.zeros(1, 5), fake=2.5))[0].item() == pytest.approx(2.5, rel=1e-5)


def test_thresholds_keep_the_shares_of_the_validation_images(fit: HeadFit) -> None:
    real, cifake = drawn(200, 0, 4), torch.cat([statistics(torch.zeros(1, 5), fake=it) for it in range(100)])
    head = fit.fit(real, cifake, false_alarms=0.05, recall=0.9)
    assert (head.scores(real)[1] > 0).float().mean().item() == pytest.approx(0.05, abs=0.01)
    assert (head.scores(cifake)[0] > 0).float().mean().item() == pytest.approx(0.9, abs=0.011)


def test_a_head_finds_what_it_was_fitted_to_and_not_what_was_left_out(fit: HeadFit) -> None:
    real, cifake = drawn(200, 0, 4), statistics(torch.zeros(20, 5), fake=5.0)
    up = fit.fit(real, cifake, 0.05, 0.9, left_out=["down"])
    assert (up.scores(drawn(100, 4, 5))[1] > 0).float().mean() > 0.4
    assert (up.scores(drawn(100, -4, 5))[1] > 0).float().mean() < 0.05
    down = fit.fit(real, cifake, 0.05, 0.9, left_out=["up"])
    assert (down.scores(drawn(100, -4, 5))[1] > 0).float().mean() > 0.4


@pytest.mark.parametrize(
    ("released", "bias", "margin"), [(3.0, 1.0, 3.0), (1.0, 3.0, 3.0), (-2.0, 1.0, 1.0), (-2.0, -5.0, -5.0)]
)
def test_an_image_is_fake_if_either_score_says_so(released: float, bias: float, margin: float) -> None:
    head = GeneratorHead(JOINT, 7)
    head.bias.fill_(bias)
    logits = head(statistics(torch.zeros(1, 5), fake=released))
    assert (logits[0, 0] - logits[0, 1]).item() == pytest.approx(margin, rel=1e-4)


def network(num_object_classes: int = 3) -> Network:
    torch.manual_seed(0)
    return build_network("texture_net_tiny", [120] * 3, [60] * 3, num_object_classes=num_object_classes).eval()


def test_a_network_without_object_classes_is_refused() -> None:
    with pytest.raises(InputError, match="no object classes"):
        LayerStatistics(network(0))


def test_statistics_end_in_the_joint_logits(sample_dataset: PackedDataset) -> None:
    images, own = photographs(sample_dataset, "train", 0)[:8], network()
    found = layer_statistics(own, images)[:, -6:].view(-1, 1, 2, 3)
    with torch.inference_mode():
        expected = own.joint_logits(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_both_heads_are_one_exported_network(
    sample_dataset: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = network()
    recipe = replace(load_recipe(ROOT / "parameters" / "generators.yaml"), real=100, fakes=5, val_fakes=4)
    real = photographs(sample_dataset, "train", 0)
    names = [name for members in FAMILIES.values() for name in members]
    fakes = {name: Fakes(255 - as_foreign(real[:30], n), 255 - real[30:50]) for n, name in enumerate(names)}
    with torch.inference_mode():
        found = all_statistics(own, sample_dataset, fakes, recipe)
        fit = head_fit(own, found, recipe)
        left_out, original = [], fit.fit
        monkeypatch.setattr(HeadFit, "fit", lambda self, *given: left_out.append(given[-1]) or original(*given))
        rows = leave_one_out(fit, found, recipe)
        head = fitted(fit, found, recipe)
    assert left_out == [*FAMILIES.values(), ()], "each family as a whole, then none"
    assert [row["set"] for row in rows] == names
    assert np.mean([row["auc"] for row in rows]) > 0.8, "inverted photographs are easy"
    detector = with_head(own, head)
    export_onnx(detector, tmp_path / "generators.onnx")  # compares the logits with PyTorch's
    logits = run_network(detector, torch.from_numpy(real[:40]), progress=False).logits
    expected = head(layer_statistics(own, real[:40])).numpy()
    assert np.allclose(logits, expected, atol=1e-4)


def test_a_recipe_that_takes_more_photographs_than_there_are_is_refused(sample_dataset: PackedDataset) -> None:
    recipe = load_recipe(ROOT / "parameters" / "generators.yaml")
    for name, value in (("fakes", 10_000), ("real", 10_000), ("val_fakes", 1000)):
        small = replace(recipe, **{"real": 100, "fakes": 5, "val_fakes": 4, name: value})
        with pytest.raises(InputError, match=f"REAL images of .*, but there are .*: lower .*{name}"):
            check_photographs(sample_dataset, small)
    check_photographs(sample_dataset, replace(recipe, real=100, fakes=5, val_fakes=4))

"""VGG16-BN with ImageNet's weights, where they can be had: as a start for training, and as frozen features."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torchvision.models import VGG16_BN_Weights

from lib.batches import tensors
from lib.device import choose_device
from lib.errors import InputError
from lib.files import project_path, write_json
from lib.networks import Network, build_network, count_macs, count_parameters
from lib.pack import Pack
from lib.pack_data import PackData
from lib.predictions import run_network
from lib.provenance import lib_hash, run_record
from lib.settings import Settings
from lib.weights import save_weights

DOWNLOAD = "download"
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet's images, 0–255 (torchvision)


def imagenet_weights(where: str) -> dict[str, Tensor]:
    """Return the weights of VGG16-BN's convolutions by their names in our network `vgg16_bn`.

    `where` is a file of torchvision's `vgg16_bn`, or "download". Raises InputError when they cannot be had.
    """
    remedy = f"set vgg_weights to a file of torchvision's vgg16_bn, or to {DOWNLOAD!r} where there is a network"
    if not where:
        raise InputError(f"no weights: {remedy}")
    try:
        if where == DOWNLOAD:
            state = VGG16_BN_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        else:
            state = torch.load(project_path(where), map_location="cpu", weights_only=True)
    except Exception as error:  # a network or a foreign file can fail in any way, and the comparison goes on without it
        raise InputError(f"{where} gave no weights ({type(error).__name__}): {remedy}") from None
    layers = build_network("vgg16_bn", _MEAN, _STD).body[0].state_dict()
    if not isinstance(state, dict) or any(
        not hasattr(found := state.get(f"features.{key}"), "shape") or found.shape != layer.shape
        for key, layer in layers.items()
    ):
        raise InputError(f"{where} does not hold the weights of torchvision's vgg16_bn: {remedy}")
    return {f"body.0.{key}": state[f"features.{key}"] for key in layers}


def fit_frozen(pack: Pack, start: dict[str, Tensor], settings: Settings, folder: Path) -> Network:
    """Fit a logistic regression on the features that frozen convolutions give of the training images.

    The images pass once, without augmentation, normalised as ImageNet's. Writes `weights.safetensors` and `run.json` to
    `folder`, as training does.
    """
    began = time.perf_counter()
    recipe = {"name": "vgg16_bn", "mean": _MEAN, "std": _STD, "mirror": False}
    network = build_network(**recipe)
    network.load_state_dict(start, strict=False)
    rows = PackData(pack, settings).train_rows
    images, labels = tensors(pack, rows, choose_device(settings.accelerator))
    features = run_network(network, images).features
    scaler, regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels.cpu())
    weight = torch.from_numpy(regression.coef_[0] / scaler.scale_) / 2
    bias = torch.tensor(regression.intercept_[0] / 2) - weight @ torch.from_numpy(scaler.mean_)
    with torch.no_grad():  # half of the margin goes to each class
        network.body[-1].weight.copy_(torch.stack([-weight, weight]))
        network.body[-1].bias.copy_(torch.stack([-bias, bias]))
    save_weights(folder / "weights.safetensors", network, recipe)
    record = run_record(
        asdict(replace(settings, epochs=1, flip=False, shift=0)), pack.facts, lib_hash(module="pretrained"),
        train_seconds=time.perf_counter() - began,
        network_parameters=count_parameters(network), macs=count_macs(network),
    )  # fmt: skip
    write_json(folder / "run.json", record)
    return network.eval()

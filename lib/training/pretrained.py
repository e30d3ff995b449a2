"""VGG16-BN with ImageNet weights, if available: as initial weights for fine-tuning, and as a frozen backbone."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torchvision.models import VGG16_BN_Weights, vgg16_bn

from lib.core.errors import InputError
from lib.core.files import project_path, write_json
from lib.core.provenance import lib_hash
from lib.data.batches import load_tensors
from lib.data.dataset import PackedDataset
from lib.evaluation.predictions import run_network
from lib.models.device import choose_device
from lib.models.networks import Network, build_network, count_macs, count_parameters
from lib.models.weights import save_weights
from lib.training.data_module import PackedDataModule
from lib.training.run_record import run_record
from lib.training.settings import Settings

DOWNLOAD = "download"
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, 0–255 (torchvision)


def imagenet_weights(where: str) -> dict[str, Tensor]:
    """Return the ImageNet weights of VGG16-BN's convolutions, as a state dict of the network `vgg16_bn`.

    The biases of torchvision's convolutions, which this network lacks, are subtracted from the running means of the
    batch normalisation that follows each: the outputs stay the same.
    `where` is a file of torchvision's `vgg16_bn`, or "download". Raises InputError if they cannot be loaded.
    """
    remedy = f"set vgg_weights to a file of torchvision's vgg16_bn, or to {DOWNLOAD!r} to fetch them from the internet"
    if not where:
        raise InputError(f"no weights: {remedy}")
    try:
        if where == DOWNLOAD:
            state = VGG16_BN_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        else:
            state = torch.load(project_path(where), map_location="cpu", weights_only=True)
    except Exception as error:  # a download or a file can fail in any way; the comparison continues without it
        raise InputError(f"{where} gave no weights ({type(error).__name__}): {remedy}") from None
    layers = vgg16_bn(weights=None).features.state_dict()
    if not isinstance(state, dict) or any(
        not hasattr(found := state.get(f"features.{key}"), "shape") or found.shape != layer.shape
        for key, layer in layers.items()
    ):
        raise InputError(f"{where} does not hold the weights of torchvision's vgg16_bn: {remedy}")
    weights = {key: state[f"features.{key}"] for key in layers}
    for key in [key for key in weights if key.endswith("running_mean")]:
        norm = int(key.partition(".")[0])
        weights[key] = weights[key] - weights.pop(f"{norm - 1}.bias")
    return {f"backbone.0.{key}": value for key, value in weights.items()}


def fit_frozen(dataset: PackedDataset, init_state_dict: dict[str, Tensor], settings: Settings, folder: Path) -> Network:
    """Fit a logistic regression on the features that frozen convolutions compute of the training images.

    The features are computed once, without augmentation, from images normalised as in ImageNet. Writes
    `weights.safetensors` and `run.json` to `folder`, as `train` does.
    """
    start = time.perf_counter()
    model_config = {"name": "vgg16_bn", "mean": _MEAN, "std": _STD, "hflip_tta": False,
                    "image_size": dataset.image_size}  # fmt: skip
    network = build_network(**model_config)
    network.load_state_dict(init_state_dict, strict=False)
    indices = PackedDataModule(dataset, settings).train_indices
    device = choose_device(settings.accelerator)
    images, labels = load_tensors(dataset, indices, device)
    features = run_network(network, images, device=device).features
    scaler, regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels.cpu())
    weight = torch.from_numpy(regression.coef_[0] / scaler.scale_) / 2
    bias = torch.tensor(regression.intercept_[0] / 2) - weight @ torch.from_numpy(scaler.mean_)
    with torch.no_grad():  # half of the margin to each class
        network.backbone[-1].weight.copy_(torch.stack([-weight, weight]))
        network.backbone[-1].bias.copy_(torch.stack([-bias, bias]))
    save_weights(folder / "weights.safetensors", network, model_config)
    record = run_record(
        asdict(replace(settings, epochs=1, flip=False, translate=0)), dataset.metadata,
        lib_hash(module="training.pretrained"),
        train_seconds=time.perf_counter() - start,
        network_parameters=count_parameters(network), macs=count_macs(network), device=device.type,
    )  # fmt: skip
    write_json(folder / "run.json", record)
    return network.eval()

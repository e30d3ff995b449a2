"""The registry of networks, each of which takes uint8 images and normalises them itself."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import vgg16_bn
from torchvision.transforms import v2

from lib.core.errors import InputError
from lib.core.input_rule import IMAGE_SIZE
from lib.models.ensemble import EnsembleHeads, make_ensemble, members_of
from lib.models.texture_net import WhitenedConv2d, texture_net

_VGG_STRIDE = 32  # of its five max-pools together


class Network(nn.Module):
    """Normalise uint8 images of `image_size` pixels a side and compute their logits with `backbone`.

    With `hflip_tta` (test-time augmentation), evaluation averages the logits of each image and its horizontal flip.
    """

    def __init__(
        self,
        backbone: nn.Sequential,
        mean: Sequence[float],
        std: Sequence[float],
        hflip_tta: bool,
        image_size: int = IMAGE_SIZE,
    ) -> None:
        super().__init__()
        self.backbone, self.hflip_tta, self.image_size = backbone, hflip_tta, image_size
        self.mean, self.std = mean, std
        # Not in the state dict: mean and std are in the model_config beside the weights (lib.models.weights).
        for name, values in (("centre", mean), ("scale", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Return uint8 images as float32, normalised by the mean and standard deviation of each channel."""
        return v2.functional.normalize(images.float(), self.centre, self.scale)

    def init_whitening(self, images: Tensor) -> None:
        """Initialise whitened layers from the statistics of training images (uint8 N×3×S×S)."""
        for layer in self.modules():
            if isinstance(layer, WhitenedConv2d):
                layer.init_whitening(self.normalise(images))

    def forward(self, images: Tensor) -> Tensor:
        x = self.normalise(images)
        if self.hflip_tta and not self.training:
            return (self.backbone(x) + self.backbone(x.flip(3))) / 2
        return self.backbone(x)

    def with_hflip_tta(self, hflip_tta: bool) -> "Network":
        """Return a network that shares these weights, with or without flip TTA."""
        return self._sharing(self.backbone, hflip_tta)

    def members(self) -> list["Network"]:
        """Return every ensemble member (lib.models.ensemble) as a network that shares its weights with this one."""
        return [self._sharing(member, self.hflip_tta) for member in members_of(self.backbone)]

    def _sharing(self, backbone: nn.Sequential, hflip_tta: bool) -> "Network":
        network = Network(backbone, self.mean, self.std, hflip_tta, self.image_size)
        return network.to(self.centre.device).train(self.training)

    def joint_logits(self, images: Tensor) -> Tensor:
        """Return the joint logits of label and object class of every member, without TTA: N×members×2×K.

        A network that is no ensemble is its only member. Without a JointLinear, K is 1.
        """
        x = self.normalise(images)
        return torch.stack([_joint_logits(member[-1], member[:-1](x)) for member in members_of(self.backbone)], 1)


def _joint_logits(head: nn.Module, features: Tensor) -> Tensor:
    return head.joint_logits(features) if isinstance(head, JointLinear) else head(features)[:, :, None]


class JointLinear(nn.Linear):
    """Classify through the joint classes of label and object class: features N×F to logits N×2 (FAKE, REAL).

    The logit of a label is the log-sum-exp of the joint logits over the object classes. A softmax over the labels is
    thus the marginal of the softmax over all joint classes. Real and fake images are told apart within each object
    class rather than across all of them.
    """

    def __init__(self, in_features: int, num_object_classes: int) -> None:
        super().__init__(in_features, 2 * num_object_classes)

    def joint_logits(self, features: Tensor) -> Tensor:
        """Return the joint logits of label and object class, N×2×K."""
        return super().forward(features).unflatten(1, (2, -1))

    def forward(self, features: Tensor) -> Tensor:
        return self.joint_logits(features).logsumexp(2)


def build_network(
    name: str,
    mean: Sequence[float],
    std: Sequence[float],
    dropout: float = 0.0,
    hflip_tta: bool = False,
    num_object_classes: int = 0,
    image_size: int = IMAGE_SIZE,
) -> Network:
    """Return the network called `name`: uint8 images N×3×S×S, S = `image_size`, to logits float32 N×2 (FAKE, REAL).

    `mean` and `std` (0–255, three channels) are those of the training images. `dropout` acts before the last
    linear layer. With `hflip_tta`, evaluation averages the logits of each image and its horizontal flip. With
    `num_object_classes`, the head (of every ensemble member) is a JointLinear with so many object classes.
    Raises InputError for a name that is not in NETWORKS, and for images that are too small for the network.
    """
    if name not in NETWORKS:
        raise InputError(f"network {name!r} does not exist: choose one of {', '.join(NETWORKS)}")
    if name == "vgg16_bn" and image_size < _VGG_STRIDE:
        raise InputError(f"network {name!r} needs images of {_VGG_STRIDE} pixels at least: image_size is {image_size}")
    backbone = NETWORKS[name](dropout)
    if num_object_classes and isinstance(backbone[-1], EnsembleHeads):
        backbone[-1] = EnsembleHeads(JointLinear(head.in_features, num_object_classes) for head in backbone[-1])
    elif num_object_classes:
        backbone[-1] = JointLinear(backbone[-1].in_features, num_object_classes)
    return Network(backbone, mean, std, hflip_tta, image_size)


def count_parameters(network: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_macs(network: Network) -> int:
    """Count the MACs (multiply-accumulate operations) of convolutions and linear layers for one image in evaluation."""
    size = network.image_size
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=next(network.parameters()).device)
    training = network.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(image)
    network.train(training)
    return counter.get_total_flops() // 2


class Residual(nn.Module):
    """Add the output of `branch` to its input (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def _conv_bn(width_in: int, width_out: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width_out, 3, padding=1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU()]


def _plain(*widths: int, residual: bool = False) -> Callable[[float], nn.Sequential]:
    """Return a builder of plain CNNs: a convolution and a max-pool a stage, as in the student project's baseline."""

    def build(dropout: float) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width_in, width in zip((3, *widths[:-1]), widths, strict=True):
            layers += [*_conv_bn(width_in, width), nn.MaxPool2d(2)]
        if residual:
            layers.append(Residual(nn.Sequential(*_conv_bn(widths[-1], widths[-1]))))
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1], 2)
        )

    return build


def _vgg16_bn(dropout: float) -> nn.Sequential:
    """Build VGG16 with batch normalisation: torchvision's convolutions, their mean, and one linear layer.

    The convolutions have no biases, which the batch normalisation that follows would subtract again.
    """
    features = vgg16_bn(weights=None).features
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
    # Of 32×32 pixels a single position is left, which is its own mean.
    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(features, mean, nn.Dropout(dropout), nn.Linear(512, 2))


NETWORKS: dict[str, Callable[[float], nn.Sequential]] = {
    "texture_net": texture_net((48, 88, 128), (1, 1, 1)),
    "texture_net_x2": make_ensemble(2, texture_net((48, 88, 128), (1, 1, 1))),
    "texture_net_small": texture_net((32, 64, 128), (0, 1, 1), use_se=False),
    "texture_net_light": texture_net((32, 64, 128), (0, 1, 1), use_se=False, stride_downsampling=True),
    "texture_net_tiny": texture_net((16, 32, 64), (0, 1, 1), use_se=False),
    "plain_16_32": _plain(16, 32),
    "plain_32_64": _plain(32, 64),
    "plain_64_128": _plain(64, 128),
    "plain_32_64_128": _plain(32, 64, 128),
    "plain_32_64_128_256": _plain(32, 64, 128, 256),
    "plain_32_64_128_residual": _plain(32, 64, 128, residual=True),
    "vgg16_bn": _vgg16_bn,
}

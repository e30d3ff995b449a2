"""The networks, by name. Each takes uint8 images and normalises them itself."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import vgg16_bn
from torchvision.transforms import v2

from lib.columns import ColumnHeads, columns_of, in_columns
from lib.decode import SIDE
from lib.errors import InputError
from lib.texture_net import WhitenedConv2d, texture_net


class Network(nn.Module):
    """Normalise uint8 images, and let `body` answer; with `mirror`, in evaluation, for both mirror images."""

    def __init__(self, body: nn.Sequential, mean: Sequence[float], std: Sequence[float], mirror: bool) -> None:
        super().__init__()
        self.body, self.mirror = body, mirror
        self.mean, self.std = mean, std
        for name, values in (("centre", mean), ("scale", std)):  # which are written beside the weights (lib.weights)
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Return uint8 images as float32, by the mean and standard deviation of each channel."""
        return v2.functional.normalize(images.float(), self.centre, self.scale)

    def fit(self, images: Tensor) -> None:
        """Let layers that start from statistics take them from training images (uint8 N×3×32×32)."""
        for layer in self.modules():
            if isinstance(layer, WhitenedConv2d):
                layer.fit(self.normalise(images))

    def forward(self, images: Tensor) -> Tensor:
        x = self.normalise(images)
        if self.mirror and not self.training:
            return (self.body(x) + self.body(x.flip(3))) / 2
        return self.body(x)

    def with_mirror(self, mirror: bool) -> "Network":
        """Return a network with the same weights that looks at mirror images too, or does not."""
        return self._of(self.body, mirror)

    def columns(self) -> list["Network"]:
        """Return each column (lib.columns) as a network of its own, which shares its weights with this one."""
        return [self._of(body, self.mirror) for body in columns_of(self.body)]

    def _of(self, body: nn.Sequential, mirror: bool) -> "Network":
        return Network(body, self.mean, self.std, mirror).to(self.centre.device).train(self.training)

    def joint(self, images: Tensor) -> Tensor:
        """Return what each column says of one view: logits N×columns×2×objects of all pairs of label and object class.

        A network without columns is one (lib.columns); one without a JointLinear knows one object class.
        """
        x = self.normalise(images)
        return torch.stack([_pairs(column[-1], column[:-1](x)) for column in columns_of(self.body)], 1)


def _pairs(head: nn.Module, features: Tensor) -> Tensor:
    return head.joint(features) if isinstance(head, JointLinear) else head(features)[:, :, None]


class JointLinear(nn.Linear):
    """Judge an image by what it shows: features N×F to logits N×2 (FAKE, REAL), through one for each pair of label
    and object class.

    The logit of a label is the logarithm of the sum of the exponentials of its pairs, so that a softmax over the
    labels is the marginal of one over all pairs. An image is then compared with true and false cats, dogs, ships,
    rather than with true and false images of any kind.
    """

    def __init__(self, inputs: int, objects: int) -> None:
        super().__init__(inputs, 2 * objects)

    def joint(self, features: Tensor) -> Tensor:
        """Return the logits of all pairs, N×2×objects."""
        return super().forward(features).unflatten(1, (2, -1))

    def forward(self, features: Tensor) -> Tensor:
        return self.joint(features).logsumexp(2)


def build_network(
    name: str,
    mean: Sequence[float],
    std: Sequence[float],
    dropout: float = 0.0,
    mirror: bool = False,
    objects: int = 0,
) -> Network:
    """Return the network called `name`: uint8 images N×3×32×32 to logits float32 N×2 (FAKE, REAL).

    `mean` and `std` (0–255, three channels) are those of the training images. `dropout` acts before the last
    linear layer. With `mirror` the network in evaluation averages its logits over an image and its mirror image.
    With `objects` the last layer, or that of each column, is a JointLinear of so many object classes.
    Raises InputError for a name that is not in NETWORKS.
    """
    if name not in NETWORKS:
        raise InputError(f"network {name!r} is not known: choose one of {', '.join(NETWORKS)}")
    body = NETWORKS[name](dropout)
    if objects and isinstance(body[-1], ColumnHeads):
        body[-1] = ColumnHeads(JointLinear(head.in_features, objects) for head in body[-1])
    elif objects:
        body[-1] = JointLinear(body[-1].in_features, objects)
    return Network(body, mean, std, mirror)


def count_parameters(network: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_macs(network: nn.Module) -> int:
    """Count the multiply-accumulates that one image takes in evaluation (convolutions and linear layers)."""
    image = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8, device=next(network.parameters()).device)
    training = network.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(image)
    network.train(training)
    return counter.get_total_flops() // 2


class Residual(nn.Module):
    """Add what `body` makes of its input to the input."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _conv_bn(width_in: int, width_out: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width_out, 3, padding=1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU()]


def _plain(*widths: int, residual: bool = False) -> Callable[[float], nn.Sequential]:
    """One convolution a stage, then a max-pool, as the earlier student project had them."""

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
    """VGG16 with batch normalisation (torchvision's layers), with one linear layer for 32×32 inputs."""
    return nn.Sequential(vgg16_bn(weights=None).features, nn.Flatten(), nn.Dropout(dropout), nn.Linear(512, 2))


NETWORKS: dict[str, Callable[[float], nn.Sequential]] = {
    "texture_net": texture_net((48, 88, 128), (1, 1, 1)),
    "texture_net_x2": in_columns(2, texture_net((48, 88, 128), (1, 1, 1))),
    "texture_net_small": texture_net((32, 64, 128), (0, 1, 1), excite=False),
    "texture_net_light": texture_net((32, 64, 128), (0, 1, 1), excite=False, light=True),
    "texture_net_tiny": texture_net((16, 32, 64), (0, 1, 1), excite=False),
    "plain_16_32": _plain(16, 32),
    "plain_32_64": _plain(32, 64),
    "plain_64_128": _plain(64, 128),
    "plain_32_64_128": _plain(32, 64, 128),
    "plain_32_64_128_256": _plain(32, 64, 128, 256),
    "plain_32_64_128_residual": _plain(32, 64, 128, residual=True),
    "vgg16_bn": _vgg16_bn,
}

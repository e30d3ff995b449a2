"""Trained weights as safetensors: arrays and a few words about them, nothing that could run."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from lib.errors import InputError
from lib.files import whole_file
from lib.networks import build_network

_ABOUT = "cifake"


def save_weights(path: Path, network: nn.Module, name: str, mean: Sequence[float], std: Sequence[float]) -> None:
    """Write the weights of a network made by `build_network`, with its name and its input statistics."""
    tensors = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    # One entry: safetensors writes several in any order, and the same weights should give the same file.
    about = {_ABOUT: json.dumps({"network": name, "mean": list(mean), "std": list(std)})}
    with whole_file(path) as partial:
        save_file(tensors, partial, about)


def load_weights(path: Path) -> nn.Module:
    """Build the network that `path` describes and load its weights, ready for evaluation.

    Raises InputError when the file is missing, damaged, or does not fit the network that it names.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()[_ABOUT])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is not a dict)
        network = build_network(about["network"], about["mean"], about["std"])
        network.load_state_dict(tensors)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: train a network first (02_train)") from None
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not hold weights of this project ({reason}): train again") from None
    return network.eval()

"""Trained weights as safetensors: arrays and a few words about them, nothing that could run."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lib.errors import InputError
from lib.files import whole_file
from lib.networks import Network, build_network

_ABOUT = "cifake"

Recipe = dict[str, Any]


def save_weights(path: Path, network: Network, recipe: Recipe) -> None:
    """Write the weights of a network, with the arguments of the `build_network` that made it."""
    tensors = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    # One entry: safetensors writes several in any order, and the same weights should give the same file.
    with whole_file(path) as partial:
        save_file(tensors, partial, {_ABOUT: json.dumps(recipe)})


def load_weights(path: Path) -> Network:
    """Build the network that `path` describes and load its weights, ready for evaluation.

    Raises InputError when the file is missing, damaged, or does not fit the network that it names.
    """
    try:
        with safe_open(path, framework="pt") as file:
            recipe = json.loads(file.metadata()[_ABOUT])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is not a dict)
        network = build_network(**recipe)
        network.load_state_dict(tensors)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: train a network first (02_train)") from None
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not hold weights of this project ({reason}): train again") from None
    return network.eval()

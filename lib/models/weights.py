"""Trained weights as safetensors files, which hold no executable code."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lib.core.errors import InputError
from lib.core.files import atomic_file
from lib.models.networks import Network, build_network

_METADATA_KEY = "cifake"


def save_weights(path: Path, network: Network, model_config: dict[str, Any]) -> None:
    """Write the weights of a network, and `model_config`, the arguments of `build_network`, as metadata."""
    tensors = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    # One entry: safetensors writes several in any order, and the same weights should give the same file.
    with atomic_file(path) as partial:
        save_file(tensors, partial, {_METADATA_KEY: json.dumps(model_config)})


def load_weights(path: Path) -> Network:
    """Build the network described in `path` and load its weights; return it in evaluation mode.

    Raises InputError if the file is missing or damaged, or does not fit the network that its metadata name.
    """
    try:
        with safe_open(path, framework="pt") as file:
            model_config = json.loads(file.metadata()[_METADATA_KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is not a dict)
        network = build_network(**model_config)
        network.load_state_dict(tensors)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: train a network first (02_train)") from None
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not hold weights of this project ({reason}): train again") from None
    return network.eval()

"""Choose whether Weights & Biases logs online, offline or not at all."""

import os

from lib.core.errors import InputError

WANDB_MODES = ("auto", "online", "offline", "disabled")


def wandb_mode(mode: str) -> str:
    """Return "online", "offline" or "disabled"; "auto" means online if WANDB_API_KEY is set, else offline.

    Raises InputError for any other value.
    """
    if mode not in WANDB_MODES:
        raise InputError(f"wandb is {mode!r}: choose one of {', '.join(WANDB_MODES)}")
    if mode == "auto":
        return "online" if os.environ.get("WANDB_API_KEY") else "offline"
    return mode

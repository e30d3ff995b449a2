"""Choose whether Weights & Biases logs online, offline or not at all."""

import os

from lib.core.errors import InputError

WANDB_MODES = ("auto", "online", "offline", "disabled")
# All values that W&B accepts in WANDB_MODE.
_OF_VARIABLE = {
    "online": "online", "run": "online", "shared": "online", "offline": "offline", "dryrun": "offline",
    "disabled": "disabled",
}  # fmt: skip


def wandb_mode(mode: str) -> str:
    """Return "online", "offline" or "disabled" for the value of a parameter `wandb`.

    "auto" leaves the choice to W&B's own variables: WANDB_DISABLED, then WANDB_MODE, and without either online if
    WANDB_API_KEY is set, else offline. A login in the home folder's netrc file is used online, but does not make "auto"
    go online. Every other value is taken before these variables. Raises InputError for an unknown value of `mode` or of
    WANDB_MODE.
    """
    if mode not in WANDB_MODES:
        raise InputError(f"wandb is {mode!r}: choose one of {', '.join(WANDB_MODES)}")
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ("true", "1", "yes", "y", "on", "t"):
        return "disabled"
    if given := os.environ.get("WANDB_MODE", "").strip().lower():
        if given not in _OF_VARIABLE:
            known = ", ".join(_OF_VARIABLE)
            raise InputError(f"the environment variable WANDB_MODE is {given!r}: choose one of {known}, or unset it")
        return _OF_VARIABLE[given]
    return "online" if os.environ.get("WANDB_API_KEY") else "offline"

"""W&B as the logger of a training."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib.core.provenance import git_commit
from lib.core.wandb_mode import wandb_mode
from lib.training.settings import Settings


def wandb_logger(mode: str, settings: Settings, folder: Path) -> Any:
    """Return Lightning's W&B logger of a training in `folder`, or False if `mode` disables W&B."""
    if (mode := wandb_mode(mode)) == "disabled":
        return False
    import wandb  # imported here, because training must run without it
    from pytorch_lightning.loggers import WandbLogger

    class FinishingLogger(WandbLogger):
        """Finish the W&B run at the end of training, in the process that started it."""

        def finalize(self, status: str) -> None:
            super().finalize(status)
            wandb.finish(exit_code=int(status != "success"))

    logger = FinishingLogger(
        project="cifake", mode=mode, save_dir=folder, config=asdict(settings),
        settings={"silent": True, "console": "off", "disable_git": git_commit() is None},
    )  # fmt: skip
    # Lightning passes it always; W&B has dropped it, and would warn of it in every notebook.
    logger._wandb_init.pop("anonymous", None)
    return logger

"""Learning curves of any run: of its history.csv, or of Weights & Biases."""

from pathlib import Path

import pandas as pd

from lib.core.errors import InputError
from lib.core.files import atomic_file
from lib.plots.live import learning_curves
from lib.plots.style import use_style

_COLUMNS = [f"{stage}/{quantity}" for stage in ("train", "val") for quantity in ("loss", "acc")]


def curves(run: str) -> pd.DataFrame:
    """Return loss and accuracy of train and val of a run, a row an epoch.

    `run` is a folder with a `history.csv`, that file itself, or a W&B path ENTITY/PROJECT/RUN (needs an account).
    Raises InputError where there is no such run, or it lacks one of the four columns.
    """
    path = Path(run)
    file = path / "history.csv" if path.is_dir() else path
    if file.is_file():
        table = pd.read_csv(file)
    elif path.exists() or len(path.parts) != 3:
        raise InputError(f"there is no history.csv in {run}: name the folder of a run, or ENTITY/PROJECT/RUN of W&B")
    else:
        table = _from_wandb(run)
    if missing := [name for name in _COLUMNS if name not in table]:
        raise InputError(f"{run} has no {', '.join(missing)}: it is not a history of 02_train")
    return table


def draw_curves(run: str, output: Path) -> None:
    """Draw the learning curves of a run (as in `curves`) into a PNG file; raise InputError as `curves` does."""
    use_style()
    figure = learning_curves(curves(run))
    with atomic_file(output) as partial:
        figure.savefig(partial, format="png", dpi=150)


def _from_wandb(run: str) -> pd.DataFrame:
    import wandb  # here, because local histories need neither it nor an account

    try:
        rows = pd.DataFrame(wandb.Api().run(run).scan_history())
    except (wandb.errors.Error, ValueError) as error:
        raise InputError(
            f"{run} is neither a folder nor a run that W&B returns ({error}): log in with `wandb login`"
        ) from None
    if not {"epoch", *_COLUMNS} <= set(rows):
        return rows
    # Lightning counts epochs from 0, and logs train and val in rows of their own.
    return rows.groupby("epoch")[_COLUMNS].last().reset_index().assign(epoch=lambda table: table["epoch"] + 1)

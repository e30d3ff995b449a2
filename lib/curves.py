"""Draw the curves of any run: `python -m lib.curves FOLDER`, or `ENTITY/PROJECT/RUN` from W&B, with an account."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from lib import plots
from lib.errors import InputError
from lib.files import whole_file

_COLUMNS = [f"{stage}/{quantity}" for stage in ("train", "val") for quantity in ("loss", "acc")]


def curves(run: str) -> pd.DataFrame:
    """Return loss and accuracy of train and val, a row an epoch, of a run.

    `run` is a folder with a `history.csv`, that file itself, or a W&B path ENTITY/PROJECT/RUN. Raises InputError
    where there is no such run.
    """
    path = Path(run)
    file = path / "history.csv" if path.is_dir() else path
    if file.is_file():
        history = pd.read_csv(file)
    elif path.exists() or len(path.parts) != 3:
        raise InputError(f"there is no history.csv in {run}: name the folder of a run, or ENTITY/PROJECT/RUN of W&B")
    else:
        history = _from_wandb(run)
    if missing := [name for name in _COLUMNS if name not in history]:
        raise InputError(f"{run} has no {', '.join(missing)}: it is no history of 02_train")
    return history


def _from_wandb(run: str) -> pd.DataFrame:
    import wandb  # here, because local histories need neither it nor an account

    try:
        rows = pd.DataFrame(wandb.Api().run(run).scan_history())
    except (wandb.errors.Error, ValueError) as error:
        raise InputError(
            f"{run} is no folder here, and W&B does not give it ({error}): log in with `wandb login`"
        ) from None
    if not {"epoch", *_COLUMNS} <= set(rows):
        return rows
    # Lightning counts epochs from 0, and logs train and val in rows of their own.
    return rows.groupby("epoch")[_COLUMNS].last().reset_index().assign(epoch=lambda table: table["epoch"] + 1)


def main(arguments: list[str] | None = None) -> int:
    """Draw a run's curves into a PNG; return 0, or 1 where there is no such run."""
    parser = argparse.ArgumentParser(prog="python -m lib.curves", description=__doc__)
    parser.add_argument("run", help="a folder with history.csv, or ENTITY/PROJECT/RUN of W&B")
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="the picture (default: curves.png)")
    given = parser.parse_args(arguments)
    try:
        plots.use_style()
        figure = plots.history(curves(given.run))
        with whole_file(given.output) as partial:
            figure.savefig(partial, format="png", dpi=150)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

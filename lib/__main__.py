"""The command line: `python -m lib predict FILES or FOLDERS`, `python -m lib fetch-model ENTITY/PROJECT/ARTIFACT`."""

import argparse
import os
import sys
from pathlib import Path

from lib.artifacts import fetch_model
from lib.cli_predict import STYLES, predict
from lib.errors import InputError
from lib.files import ROOT
from lib.model import released

_EXIT = "Exit status: 0 done; 1 a picture could not be read (its row says why); 2 the call makes no sense; 130 Ctrl-C."


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status, as the help of the command line tells it."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "fetch-model":
            for path in fetch_model(given.artifact, given.to):
                print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
            return 0
        return predict(given.paths, given.model or released(), given.style)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the rows has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib", description="Tell camera images from AI-generated ones.", epilog=_EXIT
    )
    commands = parser.add_subparsers(dest="command", required=True)
    judge = commands.add_parser("predict", help="judge pictures", epilog=_EXIT)
    judge.add_argument("paths", nargs="+", type=Path, help="pictures, or folders of them", metavar="FILE or FOLDER")
    judge.add_argument("--model", type=Path, help="an ONNX file of 06_export (default: the released network)")
    style = judge.add_mutually_exclusive_group()
    for name, told in (("json", "one JSON object a line"), ("csv", "comma-separated values, with a header")):
        style.add_argument(f"--{name}", dest="style", action="store_const", const=name, help=told)
    judge.set_defaults(style=STYLES[0])
    fetch = commands.add_parser("fetch-model", help="bring a W&B artifact into place, checked")
    fetch.add_argument("artifact", help="ENTITY/PROJECT/ARTIFACT, or with a version ENTITY/PROJECT/ARTIFACT:v0")
    fetch.add_argument("--to", type=Path, help="a new folder (default: outputs/models/ARTIFACT)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `cifake predict`, `evaluate`, `serve`, `fetch-model`, `curves`, `release`.

Each command imports what it needs when it runs: the help appears at once, and `predict` needs no extra of the package.
"""

import argparse
import errno
import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

from lib.core.errors import InputError
from lib.core.terminal import printable, tell

_EXIT = (
    "Exit status: 0 done; 1 an image could not be read (its row says why); 2 the call or its input makes no sense, or "
    "the output cannot be written; 130 Ctrl-C. Relative paths start at the current folder."
)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}  # errors of a write to standard output


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status, as documented in the help."""
    _prepare_streams()
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed: redirect it to a file")
        try:
            given = _parsed(arguments)
            return given.run(given)
        finally:
            sys.stdout.flush()  # what fails at the interpreter's end is a traceback
    except InputError as error:
        tell(error)
        return 2
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "lib").partition(".")[0] == "lib":
            raise
        tell(f"this command needs {error.name}: install cifake-lab[{given.extra}]")
        return 2
    except BrokenPipeError:  # the reader of the rows has enough, such as head
        _discard_output()
        return 0
    except OSError as error:
        if error.filename is None and error.errno not in _FULL:
            raise
        if error.filename is None:
            _discard_output()
        tell(f"{error.filename or 'standard output'}: {error.strerror}")
        return 2


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    text = io.StringIO()  # argparse passes over an output that fails
    try:
        with redirect_stdout(text):
            return _parser().parse_args(arguments)
    finally:
        if help_text := text.getvalue():
            print(help_text, end="")


def _prepare_streams() -> None:
    """Let no name or message be one that cannot be printed, nor lack a stream to be printed to."""
    if sys.stderr is None:  # closed: another file would get its descriptor, and the messages
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _predict(given: argparse.Namespace) -> int:
    from lib.inference.predict_files import predict
    from lib.inference.predictor import default_model_path

    return predict(given.paths, given.model or default_model_path(), given.style)


def _evaluate(given: argparse.Namespace) -> int:
    from lib.evaluation.external import evaluate_path
    from lib.evaluation.external_table import sets_table, tell_what_is_left_out, write_sets_csv
    from lib.inference.predictor import default_model_path

    if given.figure:  # imported before the work begins: matplotlib may be missing
        from lib.plots.external import save_external_sets
    result = evaluate_path(given.path, given.model or default_model_path(), given.against, given.jpeg)
    print(json.dumps(result) if given.json else sets_table(result))
    if given.csv:
        write_sets_csv(given.csv, result)
    if given.figure:
        save_external_sets(given.figure, result)
    tell_what_is_left_out(result)
    return int(bool(result["unreadable"]))


def _serve(given: argparse.Namespace) -> int:
    import uvicorn

    from lib.serving.protocol import Protocol
    from lib.serving.server import Server

    if given.workers is not None:
        os.environ["CIFAKE_WORKERS"] = str(given.workers)
    config = uvicorn.Config(
        "lib.serving.app:create_app", factory=True, host=given.host, port=given.port, access_log=False,
        http=Protocol, root_path=given.root_path, proxy_headers=False, server_header=False,
        timeout_graceful_shutdown=60,
    )  # fmt: skip
    try:
        Server(config).run()
    except SystemExit as error:  # wrong settings, whose message it holds; a port in use, which uvicorn has logged
        raise InputError(error.code if isinstance(error.code, str) else "the service did not start") from None
    return 0


def _fetch_model(given: argparse.Namespace) -> int:
    from lib.inference.artifacts import fetch_model

    for path in fetch_model(given.artifact, given.to):
        print(printable(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)))
    return 0


def _curves(given: argparse.Namespace) -> int:
    from lib.plots.curves import draw_curves

    if given.output.exists() and not given.output.is_file():
        raise InputError(f"{given.output} is no file: name the PNG file to write")
    draw_curves(given.run_name, given.output)
    print(printable(str(given.output)))
    return 0


def _release(given: argparse.Namespace) -> int:
    from lib.reporting.release import release, release_notebooks

    outputs = given.outputs.expanduser().absolute()
    if given.notebooks_only:
        release_notebooks(outputs)
    else:
        release(outputs, given.external and given.external.expanduser().absolute(), given.against)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cifake", description="Tell camera images from AI-generated ones.", epilog=_EXIT
    )
    parser.add_argument("--version", action="version", version=f"cifake {version('cifake-lab')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, extra: str = "lab"
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXIT)
        added.set_defaults(run=run, extra=extra)
        return added

    model = {"type": Path, "metavar": "FILE", "help": "an ONNX file of 06_export (default: the released network)"}

    predict = command("predict", _predict, "classify images: a row each, as soon as it is computed")
    predict.add_argument("paths", nargs="+", metavar="PATH", help="images, folders of them, or - for standard input")
    predict.add_argument("--model", **model)
    style = predict.add_mutually_exclusive_group()
    for name, text in (("json", "one JSON object a line"), ("csv", "comma-separated values, with a header")):
        style.add_argument(f"--{name}", dest="style", action="store_const", const=name, help=text)
    predict.set_defaults(style="table")

    evaluate = command("evaluate", _evaluate, "compute the metrics of a network on labelled images of any origin")
    folders = "a folder or a zip with class folders FAKE and REAL, 1_fake and 0_real, or ai and nature, for each set"
    evaluate.add_argument("path", type=Path, metavar="PATH", help=folders)
    evaluate.add_argument("--model", **model)
    evaluate.add_argument("--against", metavar="SET", help="the REAL images of ROC AUC (default: those of all sets)")
    evaluate.add_argument("--jpeg", type=int, metavar="QUALITY", help="encode each image as a JPEG first, such as 75")
    evaluate.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="also write a row a set as comma-separated values")
    evaluate.add_argument("--figure", type=Path, metavar="FILE", help="also draw all sets, as a PNG")

    serve = command("serve", _serve, "start the service, which reads its settings from the environment", "service")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="the port to listen on (default: %(default)s)")
    serve.add_argument("--workers", type=int, metavar="N", help="threads of the network (default: CIFAKE_WORKERS)")
    serve.add_argument(
        "--root-path", default="", metavar="PATH", help="the prefix that a proxy takes off addresses, such as /cifake"
    )

    fetch = command("fetch-model", _fetch_model, "download a W&B artifact of 06_export, and check it")
    fetch.add_argument("artifact", metavar="ENTITY/PROJECT/ARTIFACT[:VERSION]", help="without a version the latest")
    fetch.add_argument(
        "--to", type=Path, metavar="FOLDER", help="a new folder (default: the project's outputs/models/ARTIFACT)"
    )

    curves = command("curves", _curves, "draw the learning curves of a run")
    curves.add_argument("run_name", metavar="RUN", help="a folder with history.csv, or ENTITY/PROJECT/RUN of W&B")
    curves.add_argument(
        "--output", type=Path, default=Path("curves.png"), metavar="FILE", help="a PNG (default: %(default)s)"
    )

    release = command("release", _release, "fill outputs/reference from a finished run on all of CIFAKE")
    release.add_argument("outputs", type=Path, metavar="OUTPUTS", help="the outputs of a profile, such as outputs/gpu")
    release.add_argument("--external", type=Path, metavar="PATH", help="labelled images of other kinds, to evaluate")
    release.add_argument("--against", metavar="SET", help="among them, the REAL images of the training data's kind")
    release.add_argument("--notebooks-only", action="store_true", help="replace nothing but the executed notebooks")
    return parser


if __name__ == "__main__":
    sys.exit(main())

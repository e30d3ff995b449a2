"""What a network does not know, in one sentence: its evaluation on images that are not of its training data's kind."""

from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.files import read_json

EXTERNAL = "external.json"  # beside a network, as lib.reporting.release.evaluate_external returns it


def limits(model: Path) -> str | None:
    """Return the sentence for the network in `model`, or None where nothing beside it tells.

    Raises InputError for an evaluation that does not have the pooled shares of either form.
    """
    path = model.with_name(EXTERNAL)
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        generators, photographs = (_of_class(content, name) for name in ("FAKE", "REAL"))
    except (KeyError, TypeError):
        raise InputError(f"{path} lacks the shares of all sets: take it from the same release as the network") from None
    return (
        f"Outside its training data it fails: it detects {generators[0]} images by other generators "
        f"({generators[1]} as JPEG), and calls {photographs[0]} photographs from elsewhere FAKE "
        f"({photographs[1]} as JPEG)."
    )


def _of_class(content: dict[str, Any], name: str) -> tuple[str, str]:
    found, jpeg = (content[form]["pooled"][name] for form in ("as_found", "jpeg_75"))
    return f"{100 * found['value']:.1f} % of {found['n']:,}", f"{100 * jpeg['value']:.1f} %"

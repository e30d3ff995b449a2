"""The figures of labelled sets for people (a table) and for machines (CSV)."""

import csv
from pathlib import Path
from typing import Any

from lib.core.files import atomic_file
from lib.core.terminal import printable, tell
from lib.evaluation.metrics import Estimate, percent
from lib.inference.image_files import skipped_line

_SHARES = ("called_fake", "roc_auc", "withheld", "out_of_distribution")
_NAMED = 3  # images
_HEAD = ("set", "class", "n", "called FAKE", "ROC AUC", "UNSURE", "out of distribution", "drift, p")


def sets_table(result: dict[str, Any]) -> str:
    """Return what `evaluate_sets` returned as lines of text, in percent with 95 % intervals; a row a class of a set."""
    rows = [_HEAD]
    for entry in result["sets"]:
        p_value = entry["drift_p_value"]
        shares = [_cell(entry[key]) for key in _SHARES]
        drift = "–" if p_value is None else f"{p_value:.2g}"
        rows.append((printable(entry["set"]), entry["class"], f"{entry['n']:,}", *shares, drift))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_remarks(result)])


def tell_what_is_left_out(result: dict[str, Any]) -> None:
    """Print to standard error a line for each file that could not be read, and counts of what else is left out."""
    for file, reason in result["unreadable"].items():
        tell(f"{file}: {reason}")
    if result["outside"]:
        tell(f"left out, in no class folder: {len(result['outside']):,} images ({_first(result['outside'])})")
    if result["skipped"]:
        tell(skipped_line(result["skipped"]))


def write_sets_csv(path: Path, result: dict[str, Any]) -> None:
    """Write a row a class of a set: shares in [0, 1], `_low` and `_high` the ends of their 95 % intervals."""
    values = [name for key in _SHARES for name in (key, f"{key}_low", f"{key}_high")]
    columns = ["set", "class", "description", "n", *values, "drift_p_value", "training_images"]
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for entry in result["sets"]:
            row = entry | {"description": "; ".join(filter(None, entry["description"].values()))}
            for key in _SHARES:
                estimate = entry[key] or {}
                row |= {key: estimate.get("value"), f"{key}_low": estimate.get("ci_low")}
                row[f"{key}_high"] = estimate.get("ci_high")
            writer.writerow(row)


def _cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None else percent(estimate, 1)


def _first(names: list[str]) -> str:
    return ", ".join([*map(printable, names[:_NAMED]), *["…"] * (len(names) > _NAMED)])


def _remarks(result: dict[str, Any]) -> list[str]:
    lines = [f"{result['n']:,} images; 95 % confidence intervals in brackets; ROC AUC against {result['against']}"]
    if overall := result["overall"]:
        lines.append(
            f"all sets together: accuracy {percent(overall['accuracy'])}, "
            f"balanced accuracy {percent(overall['balanced_accuracy'])}, ROC AUC {percent(overall['roc_auc'])}"
        )
    if result["training_images"] is None:
        lines.append("the hashes of the network's training images are not beside it: overlap was not looked for")
    elif result["training_images"]:
        lines.append(f"left out: {result['training_images']:,} images that are the network's training images")
    if in_both := result["in_both_classes"]:
        names = ", ".join(map(printable, in_both[:3]))
        lines.append(
            f"left out: {len(in_both):,} images that are in both classes ({names}{', …' * (len(in_both) > 3)})"
        )
    return lines

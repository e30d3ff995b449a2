"""Metrics as tables for people: percentages with their intervals, and log loss in nats."""

from typing import Any

import pandas as pd

from lib.evaluation.metrics import Estimate, in_order, percent


def metrics_table(groups: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return metrics (those of `evaluate`), formatted: a row a metric, a column a group of images."""
    return pd.DataFrame(
        {title: {"images": f"{group['accuracy']['n']:,}"} | _rows(in_order(group)) for title, group in groups.items()}
    )


def calibration_table(groups: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the metrics of probabilities, formatted: a row a metric, a column a group."""
    names = ("expected_calibration_error", "brier_score", "log_loss")
    return pd.DataFrame({title: _rows({name: group[name] for name in names}) for title, group in groups.items()})


def guarantees_table(selective: dict[str, Any], conformal: dict[str, Any]) -> pd.Series:
    """Return what `evaluate_guarantees` found on test images, formatted: coverage, risks, and prediction sets."""
    test, sets = selective["test"], conformal["test"]
    rows = {
        "coverage": test["coverage"],
        "selective risk": test["risk"],
        "risk of the UNSURE": test["risk_of_abstained"],
    }
    rows |= {f"conformal sets, coverage of {name}": estimate for name, estimate in sets["coverage"].items()}
    rows |= {f"conformal sets, {name.replace('_', ' ')}": sets[name] for name in sets if name != "coverage"}
    title = f"test, target risk {selective['target_risk']:.1%}"
    return pd.Series({name: percent(estimate) for name, estimate in rows.items()}, name=title)


def _rows(group: dict[str, Any]) -> dict[str, str]:
    return {
        f"{name} {label}".strip().replace("_", " "): _text(name, estimate)
        for name, entry in group.items()
        for label, estimate in ({"": entry} if "value" in entry else entry).items()
    }


def _text(name: str, estimate: Estimate) -> str:
    if name != "log_loss":
        return percent(estimate)
    value, low, high = (f"{estimate[key]:.4f}" for key in ("value", "ci_low", "ci_high"))
    return f"{value} [{low}, {high}]"

"""Calibrate probabilities by temperature scaling (Guo et al. 2017, arXiv 1706.04599)."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from lib.evaluation.predictions import LOGITS, is_correct, probability_fake


def fit_temperature(predictions: pd.DataFrame) -> float:
    """Return the temperature, above 0, that minimises the log loss of these predictions when it divides the logits.

    Fit it on validation images: on training images the network is overconfident. Without an error among them, which a
    few images may show, the log loss has no minimum: the temperature is then 1.
    """
    is_fake = predictions["label"].to_numpy() == 0
    if is_correct(predictions).all():
        return 1.0

    def log_loss(log_temperature: float) -> float:
        margin = (predictions[LOGITS[0]] - predictions[LOGITS[1]]).to_numpy(np.float64) / np.exp(log_temperature)
        return float(np.logaddexp(0, np.where(is_fake, -margin, margin)).mean())

    return float(np.exp(minimize_scalar(log_loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-6}).x))


def at_temperature(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Return the predictions with their logits divided by `temperature`; predicted classes stay the same."""
    return predictions.assign(**{name: predictions[name] / temperature for name in LOGITS})


def confidence(predictions: pd.DataFrame) -> np.ndarray:
    """Return the probability of the predicted class, float64 N in [0.5, 1]."""
    p_fake = probability_fake(predictions)
    return np.maximum(p_fake, 1 - p_fake)

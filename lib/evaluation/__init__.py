"""Predictions, metrics with intervals, calibration, robustness, and comparisons."""

"""Training: from a packed dataset to weights, a history and a run.json."""

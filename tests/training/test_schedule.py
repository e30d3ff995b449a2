"""The learning rates that are shown are those of the training."""

import numpy as np
import pytest

from lib.training.schedule import learning_rates


def test_one_cycle_rises_for_a_tenth_and_falls_to_near_nothing() -> None:
    rates = learning_rates({"muon_lr": 0.1, "lr": 0.004}, "one_cycle", 1000)
    assert {name: len(values) for name, values in rates.items()} == {"muon_lr": 1000, "lr": 1000}
    assert rates["lr"].max() == pytest.approx(0.004)
    assert abs(int(rates["lr"].argmax()) - 99) <= 1
    assert rates["lr"][-1] < 1e-6
    np.testing.assert_allclose(rates["muon_lr"], 25 * rates["lr"], rtol=1e-6)


@pytest.mark.parametrize(("schedule", "steps"), [("constant", 5), ("one_cycle", 1)])
def test_constant_rates_and_single_steps_stay_at_the_peak(schedule: str, steps: int) -> None:
    rates = learning_rates({"muon_lr": 0.0, "lr": 0.01}, schedule, steps)
    assert {name: values.tolist() for name, values in rates.items()} == {"lr": [0.01] * steps}

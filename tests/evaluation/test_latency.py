"""Latency: the timing loop, and the measurement of weights in a process of its own."""

import sys
from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.evaluation import latency
from lib.evaluation.latency import measure_latency, median_seconds
from lib.models.networks import build_network
from lib.models.weights import save_weights


def test_median_of_the_timed_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 90.0, 100.0, 190.0, 200.0, 203.0, 300.0, 301.0, 400.0, 402.0])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    calls: list[str] = []
    assert median_seconds(calls.append, "images", warm_up=2, calls=3) == 2.0
    assert calls == ["images"] * 5


@pytest.mark.slow
def test_larger_network_has_higher_latency_and_memory(tmp_path: Path) -> None:
    measured = []
    for name in ("plain_16_32", "plain_32_64_128_256"):
        model_config = {"name": name, "mean": [120.0] * 3, "std": [60.0] * 3, "hflip_tta": False}
        save_weights(tmp_path / name, build_network(**model_config), model_config)
        measured.append(measure_latency(tmp_path / name, 1))
    small, large = measured
    assert 0 < small["latency_bs1"] < small["latency_bs256"] < large["latency_bs256"]
    assert small["images_per_second"] == pytest.approx(256 / small["latency_bs256"])
    assert large["bytes"] > small["bytes"] > 4 * 5000
    if sys.platform == "linux":
        # 256 images hold 32 MiB and more after the first layer alone.
        assert 2**25 < small["peak_memory"] < large["peak_memory"] < 2**30


@pytest.mark.slow
def test_missing_weights_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not be measured: .*is missing"):
        measure_latency(tmp_path / "none.safetensors", 1)

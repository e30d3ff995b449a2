"""Export: ONNX Runtime alone computes from the file what PyTorch computes from the weights."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from lib.errors import InputError
from lib.export import TOLERANCE, export_onnx
from lib.files import ROOT
from lib.model import open_onnx
from lib.networks import NETWORKS, build_network
from lib.pack import Pack
from lib.weights import load_weights

MEAN, STD = [120.0, 118.0, 107.0], [61.0, 61.0, 68.0]
REFERENCE = ROOT / "outputs" / "reference"


def test_released_network_needs_onnxruntime_alone(sample_pack: Pack) -> None:
    images = np.ascontiguousarray(sample_pack.images[::8].transpose(0, 3, 1, 2))
    session = onnxruntime.InferenceSession(REFERENCE / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images})
    with torch.no_grad():
        expected = load_weights(REFERENCE / "weights.safetensors")(torch.from_numpy(images)).numpy()
    assert (logits.dtype, logits.shape) == (np.float32, (len(images), 2))
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
    assert np.ptp(logits) > 1, "logits that hardly differ would be equal by chance"


@pytest.mark.parametrize("mirror", [False, True])
def test_any_batch_size_gives_the_same_logits(tmp_path: Path, mirror: bool) -> None:
    torch.manual_seed(0)
    network = build_network(next(iter(NETWORKS)), MEAN, STD, mirror=mirror)
    network.body[-1].weight.data *= 1e4  # untrained, it would say nearly the same of every image
    export_onnx(network, tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    session = open_onnx(tmp_path / "model.onnx")
    together = session.run(None, {"images": images})[0]
    apart = np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])
    np.testing.assert_allclose(together, apart, atol=0.01)
    assert np.ptp(together, axis=0).min() > 0.05
    mirrored = session.run(None, {"images": np.ascontiguousarray(images[..., ::-1])})[0]
    assert np.allclose(together, mirrored, atol=0.01) == mirror


def test_network_that_onnx_gets_wrong_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.export.TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"from PyTorch's"):
        export_onnx(build_network("plain_16_32", MEAN, STD), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_network_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="is missing: export a network first"):
        open_onnx(path)
    path.write_bytes(b"no protobuf")
    with pytest.raises(InputError, match="is not an ONNX file"):
        open_onnx(path)
    torch.onnx.export(torch.nn.Flatten().eval(), (torch.zeros(1, 3, 32, 32),), path, verbose=False)
    with pytest.raises(InputError, match="is the contract: export it with this project"):
        open_onnx(path)

"""Export to ONNX: ONNX Runtime computes the logits that PyTorch computes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.data.dataset import PackedDataset
from lib.export.onnx_file import TOLERANCE, export_onnx
from lib.inference.predictor import default_model_path, open_onnx
from lib.models.networks import NETWORKS, build_network
from lib.models.weights import load_weights

MEAN, STD = [120.0, 118.0, 107.0], [61.0, 61.0, 68.0]
REFERENCE = ROOT / "outputs" / "reference"


@pytest.mark.slow
def test_released_network_needs_onnxruntime_alone(sample_dataset: PackedDataset) -> None:
    images = np.ascontiguousarray(sample_dataset.images[::8].transpose(0, 3, 1, 2))
    session = onnxruntime.InferenceSession(REFERENCE / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images})
    with torch.no_grad():
        expected = load_weights(REFERENCE / "weights.safetensors")(torch.from_numpy(images)).numpy()
    assert (logits.dtype, logits.shape) == (np.float32, (len(images), 2))
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
    assert np.ptp(logits) > 1, "nearly constant logits would agree by chance"


def test_threads_are_the_usable_cores_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)  # the least of cores, affinity and quota
    for given, used in ((0, 3), (2, 2)):
        session = open_onnx(default_model_path(), given)
        assert session.get_session_options().intra_op_num_threads == used


@pytest.mark.slow
@pytest.mark.parametrize("hflip_tta", [False, True])
def test_logits_do_not_depend_on_the_batch_size(tmp_path: Path, hflip_tta: bool) -> None:
    torch.manual_seed(0)
    network = build_network(next(iter(NETWORKS)), MEAN, STD, hflip_tta=hflip_tta)
    network.backbone[-1].weight.data *= 1e4  # untrained, its logits would be nearly constant
    export_onnx(network, tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    session = open_onnx(tmp_path / "model.onnx")
    together = session.run(None, {"images": images})[0]
    one_by_one = np.concatenate([session.run(None, {"images": image[None]})[0] for image in images])
    np.testing.assert_allclose(together, one_by_one, atol=0.01)
    assert np.ptp(together, axis=0).min() > 0.05
    flipped = session.run(None, {"images": np.ascontiguousarray(images[..., ::-1])})[0]
    assert np.allclose(together, flipped, atol=0.01) == hflip_tta


@pytest.mark.slow
def test_export_with_other_logits_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.export.onnx_file.TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"from PyTorch's"):
        export_onnx(build_network("plain_16_32", MEAN, STD), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="is missing: export a network first"):
        open_onnx(path)
    path.write_bytes(b"no protobuf")
    with pytest.raises(InputError, match="is not an ONNX file"):
        open_onnx(path)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    with pytest.raises(InputError, match="is the contract: export it with this project"):
        open_onnx(path)

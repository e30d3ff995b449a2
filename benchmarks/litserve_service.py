"""Serve the released network by LitServe, which benchmarks/service.py compares: `python litserve_service.py PORT`.

LitServe is a tool to install where it is needed (`pip install litserve`), not a package of this project. It gets the
same ONNX file and batch size as our service, its faster queue, one worker, and 5 ms to fill a batch: its best on two
cores at 64 connections, of one or two workers and 1 to 20 ms.
"""

import io
import logging
import sys
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from PIL import Image

from lib.inference.predictor import Prediction, Predictor, default_model_path


class Detector(litserve.LitAPI):
    """Decode by Pillow, and run the network on batches."""

    def setup(self, device: str) -> None:
        self.predictor = Predictor(default_model_path())

    def decode_request(self, request: Request) -> np.ndarray:  # LitServe passes its form
        return np.asarray(Image.open(io.BytesIO(request["data"].file.read())).convert("RGB"))

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, pixels: np.ndarray) -> list[Prediction]:
        return self.predictor.predict(pixels)

    def unbatch(self, output: list[Prediction]) -> list[Prediction]:
        return output

    def encode_response(self, output: Prediction) -> dict[str, Any]:
        return {"prediction": output.prediction, "probs": output.probs}


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # it logs a traceback for each connection that wrk closes
    api = Detector(max_batch_size=16, batch_timeout=0.005, api_path="/predict/")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True, timeout=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")

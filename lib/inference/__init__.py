"""Inference with the exported network by ONNX Runtime, without PyTorch: predictions, saliency maps, drift detection."""

"""Export to ONNX: quantisation, pruning, cascades, and the selection of the variant to serve."""

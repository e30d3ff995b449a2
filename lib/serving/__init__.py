"""The HTTP service: one image in, one prediction out, and Prometheus metrics."""

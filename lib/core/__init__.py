"""Errors, files, parameters and provenance: the base of all other packages, without PyTorch."""

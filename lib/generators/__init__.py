"""Fakes made of REAL training images by small generators, and a head that detects their like."""

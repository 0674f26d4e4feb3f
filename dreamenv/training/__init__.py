"""Fitting vision and memory to real experience."""

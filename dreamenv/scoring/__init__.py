"""Scores on the real environment and in the dream, and the gap between the two."""

from dreamenv.scoring.score import EpisodeResult, Score, Validator, bootstrap_interval, evaluate

__all__ = ["EpisodeResult", "Score", "Validator", "bootstrap_interval", "evaluate"]

"""Scores: what an agent earns in the real environment."""

from dreamenv.evaluation.real_return import EpisodeResult, Score, Validator, bootstrap_interval, evaluate

__all__ = ["EpisodeResult", "Score", "Validator", "bootstrap_interval", "evaluate"]

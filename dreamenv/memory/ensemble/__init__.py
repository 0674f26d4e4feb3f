"""Probabilistic ensembles of PETS and MBPO."""

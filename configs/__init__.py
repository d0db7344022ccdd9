"""Hydra configuration, installed with the package."""

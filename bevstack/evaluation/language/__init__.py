"""Driving questions."""

"""Skew and drift: whether all ways to the model prepare its input alike, and what differs between two runs."""

"""Scenarios: typed, in YAML, with the official names and ranges of the standards that they come from."""

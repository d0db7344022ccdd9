"""Runs beside each other: statistics over scenes, gates, signed bundles."""

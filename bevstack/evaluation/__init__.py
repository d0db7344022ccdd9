"""Benchmark protocols, one file each."""

"""Learned planners: what perception has found in, proposals for the vehicle's own way out."""

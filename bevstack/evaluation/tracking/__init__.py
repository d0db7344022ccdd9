"""Tracking: the nuScenes benchmark."""

"""Detection: the nuScenes benchmark, to the last bit."""

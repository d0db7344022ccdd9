"""Motion forecasts: the nuScenes challenge and EPA."""

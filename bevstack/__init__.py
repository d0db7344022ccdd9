"""bevstack: cameras and LiDAR fused into bird's-eye-view features for perception and planning."""

__version__ = "0.1.0"

"""Objects followed through time: one identity from frame to frame."""

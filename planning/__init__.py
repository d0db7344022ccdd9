"""BEV features or a scene estimate in, a plan out."""

"""Tasks on fused BEV features."""

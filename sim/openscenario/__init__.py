"""ASAM OpenSCENARIO XML 1.x and ASAM OpenDRIVE: their files into our scenarios and roads, and back."""

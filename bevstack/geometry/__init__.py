"""Functions on arrays and tensors: transforms, cameras, rotated boxes, rasters."""

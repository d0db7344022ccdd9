"""What fills a raster: map, occupancy, point classes, instances from above."""

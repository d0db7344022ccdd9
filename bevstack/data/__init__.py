"""From files to `Frame`, from frames to `Batch` and `Labels`."""

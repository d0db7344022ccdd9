"""What models said, as files: ours and the official formats."""

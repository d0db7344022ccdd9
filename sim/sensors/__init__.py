"""What the sensors of the simulated vehicle measure, with exact ground truth for every pixel and point."""

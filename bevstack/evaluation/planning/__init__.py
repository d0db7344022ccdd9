"""Open-loop planning: every convention, side by side."""

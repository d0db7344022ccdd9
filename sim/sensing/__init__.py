"""What the ego vehicle senses while a world goes on, and what can go wrong with it."""

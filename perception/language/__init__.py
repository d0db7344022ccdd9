"""What a driver would look at, in words: captioners, their refinement, and what turns text into an embedding."""

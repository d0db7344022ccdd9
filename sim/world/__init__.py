"""What exists in a simulated world: roads, buildings, actors, weather."""

"""The ego vehicle as it moves: what its actuators and tyres make of a plan."""

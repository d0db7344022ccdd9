"""Questions about a drive and commands given to it, answered from what was perceived."""

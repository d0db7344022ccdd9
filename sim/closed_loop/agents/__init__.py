"""Who drives: privileged agents that see the truth, a checkpoint with a planner, and what they have in common."""

"""Drives in a closed loop: sensors, agent, vehicle and everybody else, step by step, with the same bits every time."""

"""Worlds that the project makes itself: towns, traffic, sensors, data sets and closed-loop scenarios."""

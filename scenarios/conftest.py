"""Makes `pytest scenarios/` drive every YAML file of this folder."""

from bevstack.sim.closed_loop.pytest_plugin import *  # noqa: F403

"""Agents that need no checkpoint, by name."""

from bevstack.sim.closed_loop.agents.constant_velocity import ConstantVelocityAgent, UnprotectedAgent
from bevstack.sim.closed_loop.agents.oracle import OracleAgent
from bevstack.sim.closed_loop.agents.protocol import AgentFactory

BLIND_AGENTS: dict[str, AgentFactory] = {
    "oracle": OracleAgent,
    "constant-velocity": ConstantVelocityAgent,
    "unprotected": UnprotectedAgent,
}
"""Name -> how to make one. None of them needs sensors."""

MEANINGS = {
    "oracle": "the rules of driving on the truth: boxes, futures, map and lights",
    "constant-velocity": "keeps speed and heading",
    "unprotected": "keeps speed and place on the lane: the proof that a scenario is dangerous",
    "rule": "the rules of driving on what a checkpoint perceives",
    "learned": "the plans that a checkpoint has learned, checked by the rules",
}
"""All agents of the command line, in words."""

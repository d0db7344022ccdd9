"""A checkpoint as an agent of the closed loop, made anew in every process."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from bevstack.evaluation.checkpoint import Checkpoint, choose_device, open_checkpoint
from bevstack.evaluation.cue_condition import CueCondition
from bevstack.evaluation.full_session import full_session
from bevstack.evaluation.modality import Modality, restrict
from bevstack.planning.rule_planner import RulePlanner
from bevstack.planning.selector import LearnedPlanner
from bevstack.sim.closed_loop.agents.oracle import no_clock
from bevstack.sim.closed_loop.agents.protocol import Agent
from bevstack.sim.closed_loop.agents.session_agent import SessionAgent
from bevstack.sim.closed_loop.course import DRIVEN_VEHICLE
from bevstack.sim.closed_loop.live_senses import LiveSenses

DrivingChoice = Literal["rule", "learned"]
CHECKPOINT_AGENTS: tuple[DrivingChoice, ...] = get_args(DrivingChoice)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointAgent:
    """Which checkpoint drives, and how; calling it makes the agent."""

    checkpoint: str
    choice: DrivingChoice
    modality: Modality
    device: str
    captioner: str | None = None
    """Describes frames on the way for a model that reads text; None: it gets none."""
    encoder: str = "minilm"

    def __call__(self) -> Agent:
        """Load the weights and put a planner around them.

        Raises:
            ValueError: the model has not learned to plan, or reads no text.
        """
        return self._around(open_checkpoint(self.checkpoint))

    def _around(self, checkpoint: Checkpoint) -> Agent:
        condition = CueCondition(captioner=self.captioner, encoder=self.encoder)
        checkpoint = condition.apply(checkpoint)
        cues = condition.source(checkpoint, self.device) if self.captioner else "none"
        session = full_session(checkpoint, self.device, is_whole=True, planner=self.choice, cues=cues)
        rules = RulePlanner(vehicle=DRIVEN_VEHICLE, clock=no_clock)
        session.planner = rules if self.choice == "rule" else LearnedPlanner(rules=rules, clock=no_clock)
        return SessionAgent(session, name=self.choice, restrict=partial(restrict, modality=self.modality))


def checkpoint_agent(
    checkpoint: str,
    choice: DrivingChoice,
    *,
    modality: str | None = None,
    device: str | None = None,
    captioner: str | None = None,
    encoder: str = "minilm",
) -> tuple[CheckpointAgent, LiveSenses, dict[str, Any]]:
    """Everything that a suite needs to know of a checkpoint.

    Args:
        checkpoint: As `bevstack.build.load_model` accepts it.
        choice: Who plans.
        modality: Which sensors the model gets; None: those that it was made for.
        device: Where it runs; None: a GPU where there is one.
        captioner: See `CheckpointAgent`.
        encoder: Embeds what the captioner says.

    Returns:
        The agent's maker, its sensors, and its description with the hash of its weights.

    Raises:
        ValueError: the model lacks a sensor of the modality, has not learned to plan, or reads no text.
    """
    opened = open_checkpoint(checkpoint)
    (chosen,) = opened.modalities(modality)
    maker = CheckpointAgent(
        checkpoint=checkpoint,
        choice=choice,
        modality=chosen,
        device=choose_device(device),
        captioner=captioner,
        encoder=encoder,
    )
    maker._around(opened)
    has_cameras = bool(opened.cameras) and chosen != "lidar"
    senses = LiveSenses(
        image_size=opened.image_size if has_cameras else None,
        cameras=has_cameras,
        num_sweeps=0 if chosen == "camera" else opened.num_sweeps,
    )
    kept = ("weights_sha256", "data_hash", "parameters", "step")
    description = {"checkpoint": checkpoint, "modality": chosen, "cues": captioner or "none"}
    return maker, senses, description | {k: opened.description[k] for k in kept if k in opened.description}

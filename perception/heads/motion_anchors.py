"""What road users usually do next, rolled out from their present speed: the anchors of the modes of motion.

Each mode is a manoeuvre (go on, stop, turn left, turn right, speed up, slow down), simulated with the object's own
speed and the habits of its kind; a network then only has to say how the manoeuvre differs here. Anchors keep the modes
apart from the first training step on (Chai et al., MultiPath, CoRL 2019), and the kinematic ones need no clustering of
a data set (as the physics oracle of Phan-Minh et al., CoverNet, CVPR 2020). The first mode is constant velocity.

An object's own frame has its origin at the centre of the box and x along the way it moves; see `travel_axis`.
Letters: B frames, A agents, K modes, T steps.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.types.boxes import BoxIndex

_LEAN_MPS = 0.5
"""Below about this speed the heading of the box says more of where an object will go than its velocity does."""
_MAX_LATERAL_MPS2 = 3.0
"""Sideways acceleration at which a turn becomes wider."""
_MAX_TURN_RAD = math.pi / 2
"""A junction turns the way by a quarter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manoeuvre:
    """A simple thing to do for a few seconds."""

    acceleration_mps2: float = 0.0
    """Negative brakes, at most to a halt."""
    towards_mps: float | None = None
    """The speed that is aimed at, with the size of `acceleration_mps2`; None speeds up or slows down without end."""
    yaw_rate_radps: float = 0.0
    """Positive turns left."""


def _manoeuvres(
    *, brake: float, slow: float, turn: tuple[float, float, float], faster: tuple[float, float | None]
) -> tuple[Manoeuvre, ...]:
    acceleration, towards, yaw_rate = turn
    left, right, wide_left, wide_right = (
        Manoeuvre(acceleration_mps2=acceleration, towards_mps=towards, yaw_rate_radps=factor * yaw_rate)
        for factor in (1.0, -1.0, 0.3, -0.3)
    )
    return (
        Manoeuvre(),
        Manoeuvre(acceleration_mps2=-brake),
        left,
        right,
        Manoeuvre(acceleration_mps2=faster[0], towards_mps=faster[1]),
        Manoeuvre(acceleration_mps2=-slow),
        wide_left,
        wide_right,
    )


KINDS: dict[str, tuple[Manoeuvre, ...]] = {
    "vehicle": _manoeuvres(brake=2.5, slow=0.8, turn=(1.5, 4.5, 0.35), faster=(1.2, None)),
    "cycle": _manoeuvres(brake=2.0, slow=0.5, turn=(1.0, 3.5, 0.4), faster=(0.7, None)),
    "pedestrian": _manoeuvres(brake=1.0, slow=0.2, turn=(0.5, 1.0, 0.6), faster=(0.7, 1.4)),
}
"""Kind of road user -> its manoeuvres, the same in the same place of each; turns come in pairs."""
MAX_MODES = len(KINDS["vehicle"])

_KIND_OF_CLASS = {"pedestrian": "pedestrian", "motorcycle": "cycle", "bicycle": "cycle"}
STANDING_CLASSES = ("traffic_cone", "barrier")
"""These stay where they are."""


def travel_axis(boxes_ego: Float[Tensor, "*N 9"]) -> Float[Tensor, "*N 2"]:
    """The way that each object moves, as a unit vector in `ego`: its velocity, and the slower the more its heading."""
    yaw, velocity = boxes_ego[..., BoxIndex.YAW], boxes_ego[..., BoxIndex.VX :]
    heading = torch.stack((yaw.cos(), yaw.sin()), dim=-1)
    way = velocity + _LEAN_MPS * heading
    way = torch.where(way.norm(dim=-1, keepdim=True) < 1e-3, heading, way)
    return way / way.norm(dim=-1, keepdim=True)


def to_own(vectors_ego: Float[Tensor, "*N 2"], axis: Float[Tensor, "*#N 2"]) -> Float[Tensor, "*N 2"]:
    """Directions in `ego` as (along, to the left of) an axis."""
    x, y = vectors_ego.unbind(-1)
    a, b = axis.unbind(-1)
    return torch.stack((x * a + y * b, y * a - x * b), dim=-1)


def to_ego(vectors_own: Float[Tensor, "*N 2"], axis: Float[Tensor, "*#N 2"]) -> Float[Tensor, "*N 2"]:
    """Inverse of `to_own`."""
    along, left = vectors_own.unbind(-1)
    a, b = axis.unbind(-1)
    return torch.stack((along * a - left * b, along * b + left * a), dim=-1)


class MotionAnchors(nn.Module):
    """Rolls the manoeuvres of every agent out.

    Args:
        modes: Manoeuvres, in the order of `KINDS`.
        steps: How far to look.
        dt_s: Between two steps.

    Raises:
        ValueError: no mode or more than there are, no step, or steps that are no time apart.
    """

    _acceleration: Tensor
    _towards: Tensor
    _yaw_rate: Tensor
    _kind_of_class: Tensor
    _moves: Tensor

    def __init__(self, *, modes: int, steps: int, dt_s: float) -> None:
        super().__init__()
        if not 1 <= modes <= MAX_MODES or steps < 1 or dt_s <= 0:
            raise ValueError(f"modes={modes} must be 1 to {MAX_MODES}, steps={steps} 1 or more, dt_s={dt_s} positive")
        self.modes, self.steps, self.dt_s = modes, steps, dt_s
        chosen = [manoeuvres[:modes] for manoeuvres in KINDS.values()]
        for name in ("acceleration_mps2", "towards_mps", "yaw_rate_radps"):
            values = [[getattr(each, name) for each in kind] for kind in chosen]
            column = torch.tensor([[math.nan if value is None else value for value in row] for row in values])
            self.register_buffer(f"_{name.rpartition('_')[0]}", column, persistent=False)
        kinds = [list(KINDS).index(_KIND_OF_CLASS.get(name, "vehicle")) for name in DETECTION_CLASSES]
        moves = [name not in STANDING_CLASSES for name in DETECTION_CLASSES]
        self.register_buffer("_kind_of_class", torch.tensor(kinds), persistent=False)
        self.register_buffer("_moves", torch.tensor(moves), persistent=False)

    def kinds(self, class_index: Int[Tensor, "B A"]) -> Int[Tensor, "B A"]:
        """Which of `KINDS` each agent is."""
        return self._kind_of_class[class_index]

    def moves(self, class_index: Int[Tensor, "B A"]) -> Bool[Tensor, "B A"]:
        """Whether an object of the class can move at all."""
        return self._moves[class_index]

    def forward(
        self, velocity_own: Float[Tensor, "B A 2"], class_index: Int[Tensor, "B A"]
    ) -> Float[Tensor, "B A K T 2"]:
        """Where each manoeuvre leads, seen from where the agent is, in its own frame.

        Args:
            velocity_own: Present velocity in the agent's own frame, in m/s.
            class_index: Of `DETECTION_CLASSES`; those of `STANDING_CLASSES` stay.
        """
        kind = self.kinds(class_index)
        ends = self.dt_s * torch.arange(1, self.steps + 1, device=kind.device)
        speed = self._speeds(velocity_own[..., 0].clamp_min(0), kind, ends - self.dt_s / 2)  # (B, A, K, T)
        yaw_rate = self._yaw_rate[kind][..., None]
        yaw_rate = yaw_rate.sign() * torch.minimum(yaw_rate.abs(), _MAX_LATERAL_MPS2 / speed.clamp_min(1e-3))
        turned = (yaw_rate * self.dt_s).cumsum(-1) - yaw_rate * self.dt_s / 2  # in the middle of each step
        turned = turned.clamp(-_MAX_TURN_RAD, _MAX_TURN_RAD)
        moved = torch.stack((turned.cos(), turned.sin()), dim=-1) * (speed * self.dt_s)[..., None]
        onward = velocity_own[:, :, None, None] * ends[:, None]  # exact, backwards and sideways too
        ways = torch.cat((onward, moved.cumsum(-2)[:, :, 1:]), dim=2)
        return torch.where(self.moves(class_index)[:, :, None, None, None], ways, 0.0)

    def _speeds(
        self, speed: Float[Tensor, "B A"], kind: Int[Tensor, "B A"], times_s: Float[Tensor, " T"]
    ) -> Float[Tensor, "B A K T"]:
        """Speed at some times of each manoeuvre."""
        start = speed[..., None, None]
        change = self._acceleration[kind][..., None] * times_s
        aim = self._towards[kind][..., None]
        aimed = start + torch.maximum(torch.minimum(aim - start, change.abs()), -change.abs())
        return torch.where(aim.isnan(), (start + change).clamp_min(0), aimed)

"""Staying on the road, in the lane and within the law: compliance terms of NAVSIM and nuPlan, lights and signs run."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevstack.sim.drive_log import DRIVE_STEP_S
from bevstack.sim.metrics.areas import DrivenAreas
from bevstack.sim.metrics.route import RoutePlaces
from bevstack.sim.metrics.tracks import Tracks
from bevstack.sim.world.roads import Lane

OUTSIDE_TOLERANCE_M = 0.3
"""How far a corner may leave the drivable area in nuPlan; NAVSIM allows nothing."""
ONCOMING_FINE_M, ONCOMING_WRONG_M = 2.0, 6.0
LANE_OFFSET_M, LANE_OFFSET_STEPS = 0.5, 20
OVERSPEED_MPS = 2.23
"""Five miles per hour: driving this much too fast all the time makes nuPlan's score 0."""
_STOP_WITHIN_M, _STOPPED_MPS = 4.0, 0.1
_ONE_SECOND = 10
_LINE_MARGIN_M = 0.5
"""A front that passes this far beside the lane still crosses its line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadCompliance:
    """How the rules of the road were kept. Scores are 1 for kept; NaN where the world has nothing to keep to."""

    drivable_area: float
    """NAVSIM's DAC: 0 when any corner was outside at any step."""
    drivable_area_nuplan: float
    """0 when a corner was more than 0.3 m outside."""
    max_outside_m: float
    outside_share: float
    """Of the steps."""
    lane_keeping: float
    """NAVSIM's LK: 0 when the centre was over 0.5 m beside the route for 2 s on end; steps in a junction are skipped
    and do not end the count, as in its source."""
    max_route_offset_m: float
    driving_direction: float
    """DDC of both: 1 below 2 m against the traffic within a second, 0.5 below 6 m, else 0."""
    against_traffic_m: float
    """In the whole run."""
    traffic_light: float
    """NAVSIM's TLC: 0 when a junction was entered at red."""
    red_lights_run: int
    stop_signs_run: int
    speed_limit: float
    """nuPlan's `speed_limit_compliance`."""
    max_overspeed_mps: float

    @classmethod
    def of(cls, tracks: Tracks, areas: DrivenAreas, places: RoutePlaces) -> "RoadCompliance":
        """Judge a run of one step or more."""
        log, has_lanes = tracks.log, bool(tracks.log.roads.lanes)
        outside = float(areas.outside_m.max()) if areas.has_map else np.nan
        moved = np.hypot(*np.diff(tracks.ego[:, :2], axis=0, prepend=tracks.ego[:1, :2]).T)
        oncoming = np.where(areas.against_traffic, moved, 0.0)
        red_lights = sum(_runs_red(tracks, lanes.lanes, lanes.from_s, lanes.until_s) for lanes in log.red_lights)
        overspeed = np.maximum(tracks.speeds_mps - log.speed_limit_mps, 0.0)
        return cls(
            drivable_area=float(not areas.off_drivable.any()) if areas.has_map else np.nan,
            drivable_area_nuplan=float(outside <= OUTSIDE_TOLERANCE_M) if areas.has_map else np.nan,
            max_outside_m=outside,
            outside_share=float(areas.off_drivable.mean()) if areas.has_map else np.nan,
            lane_keeping=lane_keeping(places.offsets_m, areas.in_junction),
            max_route_offset_m=float(np.abs(places.offsets_m).max()),
            driving_direction=driving_direction(oncoming) if has_lanes else np.nan,
            against_traffic_m=float(oncoming.sum()) if has_lanes else np.nan,
            traffic_light=float(red_lights == 0),
            red_lights_run=red_lights,
            stop_signs_run=_stop_signs_run(tracks),
            speed_limit=speed_limit_score(overspeed, tracks.duration_s),
            max_overspeed_mps=float(overspeed.max()),
        )


def lane_keeping(offsets_m: Float[np.ndarray, " T"], in_junction: np.ndarray) -> float:
    """LK of Hydra-MDP++ and NAVSIM v2; NaN without a route."""
    if not np.isfinite(offsets_m).all():
        return np.nan
    is_beside = np.abs(offsets_m[~in_junction]) > LANE_OFFSET_M
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_beside.astype(np.int8), [0]))))
    return float((edges[1::2] - edges[::2]).max(initial=0) < LANE_OFFSET_STEPS)


def driving_direction(oncoming_m: Float[np.ndarray, " T"]) -> float:
    """DDC from the metres against the traffic in each step. The window of a second ends with each step and has eleven
    of them, as the sources count.
    """
    total = np.cumsum(oncoming_m)
    before = np.concatenate((np.zeros(_ONE_SECOND + 1), total))[: len(total)]
    worst = float((total - before).max())
    return 1.0 if worst < ONCOMING_FINE_M else 0.5 if worst < ONCOMING_WRONG_M else 0.0


def speed_limit_score(overspeed_mps: Float[np.ndarray, " T"], duration_s: float) -> float:
    """1 minus the mean overspeed over 2.23 m/s, not below 0; NaN where no limit is known or no time passes."""
    if duration_s <= 0:
        return np.nan
    return float(np.clip(1.0 - overspeed_mps.sum() * DRIVE_STEP_S / (OVERSPEED_MPS * duration_s), 0.0, 1.0))


def _runs_red(tracks: Tracks, lanes: tuple[int, ...], from_s: float, until_s: float) -> bool:
    """Whether the front passes the end of one of the lanes while it is red: who stands a little over the stop line has
    stopped.
    """
    for lane in (tracks.log.roads.lanes[index] for index in lanes):
        step = _crossing(_at_line(tracks, lane, lane.length_m), lane.width_m)
        if from_s <= step * DRIVE_STEP_S < until_s:  # false for NaN
            return True
    return False


def _stop_signs_run(tracks: Tracks) -> int:
    """Stop lines with a sign that were passed without standing within 4 m of them; a line counts once."""
    roads, count = tracks.log.roads, 0
    for line in roads.stop_line_details:
        if line.kind != "STOP_SIGN":
            continue
        for lane in (roads.lanes[index] for index in line.lanes):
            at_line = _at_line(tracks, lane, lane.length_m if lane.stop_station_m is None else lane.stop_station_m)
            step = _crossing(at_line, lane.width_m)
            if np.isfinite(step):
                before = np.arange(len(at_line)) <= step
                near = before & (at_line[:, 0] >= -_STOP_WITHIN_M)
                count += int(not (tracks.speeds_mps[near] < _STOPPED_MPS).any())
                break
    return count


def _at_line(tracks: Tracks, lane: Lane, station_m: float) -> Float[np.ndarray, "T 2"]:
    """Middle of the front end as metres beyond and left of the point of a lane."""
    x, y, yaw = lane.pose_at(station_m)
    heading = tracks.ego[:, 4]
    front = tracks.ego[:, :2] + tracks.ego[:, 2:3] / 2 * np.stack((np.cos(heading), np.sin(heading)), axis=1)
    offset, c, s = front - np.array((x, y)), np.cos(yaw), np.sin(yaw)
    return np.stack((c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]), axis=1)


def _crossing(at_line: Float[np.ndarray, "T 2"], width_m: float) -> float:
    """Steps, with fraction, until a line across a lane is first passed in its direction; NaN where never."""
    beyond, left = at_line.T
    passes = (beyond[:-1] <= 0) & (beyond[1:] > 0) & (np.abs(left[1:]) <= width_m / 2 + _LINE_MARGIN_M)
    if not passes.any():
        return np.nan
    step = int(np.argmax(passes))
    return step + float(-beyond[step] / (beyond[step + 1] - beyond[step]))

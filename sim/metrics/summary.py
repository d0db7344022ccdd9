"""Every number of one run in one place, and as one flat record.

What a run cannot have is NaN, never 0. What failed is 0 and says why: a run whose agent raised, or whose state was no
longer finite, scores 0 in every benchmark; its other numbers are those of the part before. A scenario that could not
begin has no numbers.
"""

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from bevstack.sim.drive_log import DriveLog
from bevstack.sim.metrics.areas import DrivenAreas
from bevstack.sim.metrics.collisions import Collisions
from bevstack.sim.metrics.comfort import Comfort
from bevstack.sim.metrics.criticality import Criticality
from bevstack.sim.metrics.driving_area import RoadCompliance
from bevstack.sim.metrics.following import Following, RouteGaps
from bevstack.sim.metrics.plan_quality import PlanQuality
from bevstack.sim.metrics.progress import Progress
from bevstack.sim.metrics.route import RoutePlaces
from bevstack.sim.metrics.rss import Rss
from bevstack.sim.metrics.scores import (
    NavsimTerms,
    NuplanTerms,
    carla_driving_score,
    carla_infractions,
    carla_penalty,
    epdms,
    hd_score,
    neuroncap_score,
    nuplan_score,
    outcome,
    pdms,
)
from bevstack.sim.metrics.tracks import Tracks

METRICS_VERSION = "closed-loop/1"
"""Changes whenever a number can come out differently for the same run."""

FAILED_ENDINGS = ("agent_error", "diverged")
"""Endings that are the agent's failure: every score is 0."""

SCORE_NAMES = ("pdms", "epdms", "nuplan_score", "carla_driving_score", "hd_score", "neuroncap_score")
"""Names of the benchmarks' scores in a record."""

Value = float | int | str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DriveScores:
    """One run, measured. The families keep their values per step, for plots."""

    log: DriveLog
    """The part that was measured."""
    collisions: Collisions
    compliance: RoadCompliance
    progress: Progress
    comfort: Comfort
    criticality: Criticality
    following: Following
    rss: Rss
    plans: PlanQuality
    navsim: NavsimTerms
    nuplan: NuplanTerms
    human: NavsimTerms | None
    """Terms of the reference run."""

    @classmethod
    def of(cls, log: DriveLog, reference: "DriveLog | DriveScores | None" = None) -> "DriveScores":
        """Measure a run.

        Args:
            log: The run, of one step or more with a finite state.
            reference: A run of the same scenario and seed by a driver worth being measured by, such as the oracle. The
                scores that ask for progress need it: EP and with it PDMS, EPDMS and the score of nuPlan.

        Raises:
            ValueError: the run has no step with a finite state, see `record_of`.
        """
        tracks = Tracks.of(log)
        if not len(tracks.ego):
            raise ValueError(f"a run needs a step with a finite ego state; {log.scenario!r} ended by {log.ending!r}")
        if isinstance(reference, DriveLog):
            reference = cls.of(reference)
        areas, places = DrivenAreas.of(tracks), RoutePlaces.of(tracks)
        collisions, gaps = Collisions.of(tracks, areas), RouteGaps.of(tracks, places)
        compliance = RoadCompliance.of(tracks, areas, places)
        progress = Progress.of(tracks, places, math.nan if reference is None else reference.progress.progress_m)
        comfort, plans = Comfort.of(tracks), PlanQuality.of(tracks)
        criticality = Criticality.of(tracks, areas, collisions)
        return cls(
            log=tracks.log,
            collisions=collisions,
            compliance=compliance,
            progress=progress,
            comfort=comfort,
            criticality=criticality,
            following=Following.of(tracks, gaps),
            rss=Rss.of(tracks, gaps),
            plans=plans,
            navsim=_navsim(collisions, compliance, progress, comfort, criticality, plans),
            nuplan=_nuplan(collisions, compliance, progress, comfort, criticality),
            human=None if reference is None else reference.navsim,
        )

    def record(self) -> dict[str, Value]:
        """All numbers under stable names, for tables and JSON. Scores of benchmarks first; flags are 0 or 1. Counts and
        flags are floats too, so that a column has one type with runs that lack them.
        """
        numbers = {
            "duration_s": float(self.log.times_s[-1]),
            **self._scores(),
            **self._terms(),
            **_contact_columns(self.collisions),
            **self._road_columns(),
            **self._ride_columns(),
            **self._nearness_columns(),
        }
        floats = {name: value if isinstance(value, str) else float(value) for name, value in numbers.items()}
        return {**_identity(self.log), "steps": len(self.log.ego_poses), **floats}

    def _scores(self) -> dict[str, Value]:
        if self.log.ending in FAILED_ENDINGS:
            return dict.fromkeys(SCORE_NAMES, 0.0)
        completion = self.progress.route_completion
        scores = (
            pdms(self.navsim),
            epdms(self.navsim, self.human),
            nuplan_score(self.nuplan),
            carla_driving_score(completion, self.carla_penalty),
            hd_score(self.plans.hd_mean, completion),
            neuroncap_score(self.collisions),
        )
        return dict(zip(SCORE_NAMES, scores, strict=True))

    @property
    def carla_penalty(self) -> float:
        """Of all infractions of the run."""
        return carla_penalty(
            carla_infractions(
                self.collisions,
                red_lights=self.compliance.red_lights_run,
                stop_signs=self.compliance.stop_signs_run,
                timeout=self.log.ending == "timeout",
            )
        )

    def _terms(self) -> dict[str, Value]:
        nuplan = self.nuplan
        return {
            **asdict(self.navsim),
            "nuplan_nc": nuplan.no_at_fault_collisions,
            "nuplan_dac": nuplan.drivable_area,
            "nuplan_making_progress": nuplan.making_progress,
            "nuplan_progress": nuplan.progress,
            "nuplan_ttc": nuplan.ttc,
            "nuplan_speed_limit": nuplan.speed_limit,
            "carla_penalty": self.carla_penalty,
            "route_completion_pct": 100.0 * self.progress.route_completion,
            "hd_mean": self.plans.hd_mean,
        }

    def _road_columns(self) -> dict[str, Value]:
        road = self.compliance
        return {
            "progress_m": self.progress.progress_m,
            "reference_progress_m": self.progress.reference_m,
            "max_outside_m": road.max_outside_m,
            "outside_share": road.outside_share,
            "max_route_offset_m": road.max_route_offset_m,
            "against_traffic_m": road.against_traffic_m,
            "red_lights_run": road.red_lights_run,
            "stop_signs_run": road.stop_signs_run,
            "max_overspeed_mps": road.max_overspeed_mps,
        }

    def _ride_columns(self) -> dict[str, Value]:
        ride = self.comfort
        return {
            "max_longitudinal_mps2": ride.max_longitudinal_mps2,
            "min_longitudinal_mps2": ride.min_longitudinal_mps2,
            "max_lateral_mps2": ride.max_lateral_mps2,
            "max_jerk_mps3": ride.max_jerk_mps3,
            "max_longitudinal_jerk_mps3": ride.max_longitudinal_jerk_mps3,
            "max_yaw_rate_radps": ride.max_yaw_rate_radps,
            "max_yaw_acceleration_radps2": ride.max_yaw_acceleration_radps2,
        }

    def _nearness_columns(self) -> dict[str, Value]:
        near, following, rss = self.criticality, self.following, self.rss
        return {
            "min_ttc_s": near.min_ttc_s,
            "time_of_min_ttc_s": near.time_of_min_ttc_s,
            "tet_s": near.time_exposed_s,
            "tit_s2": near.time_integrated_s2,
            "min_wttc_s": near.min_worst_ttc_s,
            "min_pet_s": near.min_pet_s,
            "min_thw_s": following.min_headway_s,
            "max_required_deceleration_mps2": following.max_required_deceleration_mps2,
            "max_btn": following.max_brake_threat,
            "max_dst_mps2": following.max_safety_time_deceleration_mps2,
            "rss_dangerous_share": rss.dangerous_share,
            "min_rss_longitudinal_margin_m": rss.min_longitudinal_margin_m,
            "min_rss_lateral_margin_m": rss.min_lateral_margin_m,
        }


def record_of(log: DriveLog, reference: "DriveLog | DriveScores | None" = None) -> dict[str, Value]:
    """`DriveScores.record` of any run: one that could not begin or has no finite step has the same names with NaN and
    empty words, and 0 for the scores where that is the agent's failure.
    """
    if log.ending != "impossible" and Tracks.of(log).ego.size:
        return DriveScores.of(log, reference).record()
    names = DriveScores.of(_standing(log)).record()
    failed = 0.0 if log.ending in FAILED_ENDINGS else math.nan
    nothing: dict[str, Value] = {name: "" if isinstance(value, str) else math.nan for name, value in names.items()}
    scores = dict.fromkeys((name for name in names if name in SCORE_NAMES), failed)
    return nothing | scores | _identity(log) | {"steps": 0, "duration_s": 0.0}


def json_ready(record: dict[str, Value]) -> dict[str, Value | None]:
    """The record with null for NaN and for infinite times, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }


def _identity(log: DriveLog) -> dict[str, Value]:
    return {
        "metrics_version": METRICS_VERSION,
        "scenario": log.scenario,
        "agent": log.agent,
        "seed": log.seed,
        "ending": log.ending,
    }


def _standing(log: DriveLog) -> DriveLog:
    """A run of one step at the origin, alone: it has the names of all columns."""
    zero = np.zeros(1)
    return replace(
        log, ego_poses=np.zeros((1, 3)), ego_speeds_mps=zero, ego_accelerations_mps2=zero, ego_steering_rad=zero,
        actors=(), plans=(None,), step_seconds=zero,
    )  # fmt: skip


def _navsim(
    collisions: Collisions,
    compliance: RoadCompliance,
    progress: Progress,
    comfort: Comfort,
    criticality: Criticality,
    plans: PlanQuality,
) -> NavsimTerms:
    return NavsimTerms(
        nc=collisions.no_at_fault,
        dac=compliance.drivable_area,
        ddc=compliance.driving_direction,
        tlc=compliance.traffic_light,
        ep=progress.ego_progress,
        ttc=criticality.ttc_within_bound,
        c=comfort.comfort,
        lk=compliance.lane_keeping,
        hc=comfort.history_comfort,
        ec=plans.extended_comfort,
    )


def _nuplan(
    collisions: Collisions,
    compliance: RoadCompliance,
    progress: Progress,
    comfort: Comfort,
    criticality: Criticality,
) -> NuplanTerms:
    return NuplanTerms(
        no_at_fault_collisions=collisions.no_at_fault_nuplan,
        drivable_area=compliance.drivable_area_nuplan,
        driving_direction=compliance.driving_direction,
        making_progress=progress.is_making_progress,
        progress=progress.ego_progress_nuplan,
        ttc=criticality.ttc_within_bound_nuplan,
        speed_limit=compliance.speed_limit,
        comfort=comfort.comfort,
    )


def _contact_columns(collisions: Collisions) -> dict[str, Value]:
    first = collisions.first
    return {
        "collided": int(first is not None),
        "collided_at_fault": int(bool(collisions.at_fault)),
        "contacts": len(collisions.contacts),
        "contacts_at_fault": len(collisions.at_fault),
        "outcome": outcome(collisions),
        "contact_with": "" if first is None else first.name,
        "contact_class": "" if first is None else first.class_name,
        "contact_kind": "" if first is None else first.kind,
        "contact_face": "" if first is None else first.face,
        "contact_s": math.nan if first is None else first.time_s,
        "contact_ahead_m": math.nan if first is None else first.point_ego[0],
        "contact_left_m": math.nan if first is None else first.point_ego[1],
        "impact_speed_mps": math.nan if first is None else first.impact_speed_mps,
        "relative_impact_speed_mps": math.nan if first is None else first.relative_speed_mps,
        "unbraked_impact_speed_mps": math.nan if first is None else first.unbraked_speed_mps,
    }

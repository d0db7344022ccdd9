"""Cut-ins of twelve seconds in one process: the compiled batch against the same loop in plain Python and highway-env.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/kinematic_scenarios.py

The cut-ins are drawn from the ranges of the public scenario 4.4.1 for UN R157; each runs for twelve seconds in steps of
10 ms, or until it is decided: the two touch, or one has passed the other. Plain Python runs the very same function
uncompiled, so its results must be the same bits. highway-env takes part where it is installed: two of its kinematic
vehicles on its own road, one that cuts in, in steps of 0.1 s; it is a general simulator that gives no comparable
outcome, and only its speed stands beside.
"""

import argparse
from collections.abc import Callable
from typing import Any

import common
import numpy as np

from bevstack.sim.agents.batch_kinematic import (
    DURATION_S,
    PROMPT_SYSTEM,
    STEP_S,
    Encounters,
    Outcomes,
    Reaction,
    Sizes,
    drawn_cut_ins,
    play_encounter,
    play_encounters,
)
from bevstack.sim.agents.competent_driver import competent_driver

HIGHWAY_STEP_S = 0.1


def in_plain_python(encounters: Encounters, reaction: Reaction) -> np.ndarray:
    """Outcomes (N, 5) of the uncompiled function, row by row, on lists: Python's fastest numbers."""
    row, sizes, steps = reaction.as_row().tolist(), Sizes().as_row().tolist(), round(DURATION_S / STEP_S)
    out: list[Any] = [[0.0] * 5 for _ in encounters.rows]
    for encounter, result in zip(encounters.rows.tolist(), out):
        play_encounter.py_func(encounter, row, sizes, steps, result)
    return np.array(out)


def as_rows(outcomes: Outcomes) -> np.ndarray:
    """Outcomes as (N, 5)."""
    return np.stack(
        (
            outcomes.collides.astype(float), outcomes.impact_mps, outcomes.min_gap_m, outcomes.min_ttc_s,
            outcomes.brakes_at_s,
        ),
        axis=1,
    )  # fmt: skip


def by_highway_env(encounters: Encounters) -> Callable[[], object] | None:
    """The same number of cut-ins with highway-env's vehicles; None where it is not installed."""
    try:
        from highway_env.road.road import Road, RoadNetwork
        from highway_env.vehicle.kinematics import Vehicle
    except ImportError:
        return None

    def run() -> int:
        collisions = 0
        for ego_mps, other_mps, gap_m, side_m, side_mps, *_ in encounters.rows:
            road = Road(network=RoadNetwork.straight_road_network(2, length=2000))
            ego = Vehicle(road, [0.0, 0.0], speed=ego_mps)
            other = Vehicle(road, [gap_m + Vehicle.LENGTH, side_m], speed=other_mps)
            other.heading = -np.arctan2(side_mps, max(other_mps, 1.0))
            road.vehicles = [ego, other]
            for step in range(round(DURATION_S / HIGHWAY_STEP_S)):
                ego.act({"steering": 0.0, "acceleration": -8.0 if step > 10 else 0.0})
                other.act({"steering": 0.0, "acceleration": 0.0})
                road.step(HIGHWAY_STEP_S)
            collisions += ego.crashed
        return collisions

    return run


def measured(name: str, reaction: Reaction, count: int, plain: int, runs: int) -> common.Result:
    """One reaction: equality on the first `plain` cut-ins, then time per `plain` of them."""
    many = drawn_cut_ins(count, seed=0)
    few = Encounters(rows=many.rows[:plain])
    np.testing.assert_array_equal(as_rows(play_encounters(few, reaction)), in_plain_python(few, reaction))
    outcomes = play_encounters(many, reaction)
    candidates: dict[str, Callable[[], object]] = {"plain Python": lambda: in_plain_python(few, reaction)}
    if (highway := by_highway_env(few)) is not None:
        candidates["highway-env, 0.1 s steps"] = highway
    candidates["bevstack numba"] = lambda: play_encounters(few, reaction)
    result = common.compare(
        "kinematic_scenarios",
        f"{plain} cut-ins of 12 s, {name}",
        candidates,
        baseline="plain Python",
        equality=f"bit-equal to plain Python; of {count} drawn, {outcomes.collides.mean():.1%} collide",
        runs=runs,
    )
    for candidate, timing in result.timings.items():
        print(f"  {candidate:<28} {plain / timing.min_ms * 1e3:12,.0f} cut-ins/s")
    return result


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="cut-ins whose share of collisions is reported")
    parser.add_argument("--plain", type=int, default=400, help="cut-ins that every candidate plays")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    human = competent_driver(at_cut_in=True)
    reactions = {"0.3 s and 8 m/s2": PROMPT_SYSTEM, "competent driver of UN R157": human}
    common.report(
        [measured(name, how, arguments.count, arguments.plain, arguments.runs) for name, how in reactions.items()]
    )


if __name__ == "__main__":
    main()

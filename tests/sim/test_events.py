import dataclasses

import numpy as np
import pytest
from shapely.geometry import LineString, Polygon

from bevstack.cli import sim as command
from bevstack.sim.nuscenes_writer import SceneRequest, describe
from bevstack.sim.world.events import is_hidden, stage_event
from bevstack.sim.world.presets import (
    ATTENTION,
    CROSSING_PEDESTRIAN,
    EVENTS,
    LEAD_BRAKING,
    OCCLUDED_PEDESTRIAN,
    STANDARD,
    preset_content,
    preset_hash,
)
from bevstack.sim.world.town import TOWN_KINDS, make_town
from bevstack.sim.world.traffic import EGO_CENTER_AHEAD_M, EGO_SIZE_LWH, simulate_traffic
from bevstack.sim.world.traffic_kernels import rectangles_overlap

DURATION_S = 0.5 * ATTENTION.keyframes
STEP_S = 0.05
SEEDS = range(4)


@pytest.fixture(scope="module")
def towns():
    return [make_town(TOWN_KINDS[seed % len(TOWN_KINDS)], np.random.default_rng(100 + seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def played(towns):
    return {
        event: [
            simulate_traffic(town, seed=seed, duration_s=DURATION_S, preset=ATTENTION, event=event)
            for seed, town in zip(SEEDS, towns)
        ]
        for event in EVENTS
    }


def outline(x, y, yaw, length, width):
    c, s = np.cos(yaw), np.sin(yaw)
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    local = [(a * length / 2, b * width / 2) for a, b in signs]
    return Polygon([(x + a * c - b * s, y + a * s + b * c) for a, b in local])


def beginnings(traffic, track):
    """Steps at which somebody begins to walk."""
    moving = np.array([name == "pedestrian.moving" for name in track.attributes])
    return np.flatnonzero(moving[1:] & ~moving[:-1]) + 1


def crossings(traffic):
    """(track, step) of everyone who begins to walk, comes within a metre of the ego vehicle's later way, and is met."""
    ego = traffic.ego
    for track in traffic.actors:
        if track.model.class_name != "pedestrian":
            continue
        for step in beginnings(traffic, track):
            walk = LineString(track.poses[step:, :2])
            is_across = walk.length > 2 and walk.distance(LineString(ego.route)) < 1.0
            slows = ego.speeds_mps[step] - ego.speeds_mps[step:].min()
            near = np.hypot(*(track.poses[step, :2] - ego.poses[step, :2])) < 60
            if is_across and near and slows >= 1.5:
                yield track, step


def is_behind_a_parked_vehicle(traffic, track, step):
    x, y, _, yaw = traffic.ego.poses[step]
    sight = LineString([(x + 1.7 * np.cos(yaw), y + 1.7 * np.sin(yaw)), track.poses[step, :2]])
    parked = [other for other in traffic.actors if other.attributes[0] == "vehicle.parked"]
    return any(sight.intersects(outline(*other.poses[0, [0, 1, 3]], *other.model.size_lwh[:2])) for other in parked)


def brakes_hard_ahead_of_the_ego(traffic):
    ego = traffic.ego
    for track in traffic.actors:
        if track.model.class_name not in ("car", "truck") or len(track.times_s) < len(ego.times_s):
            continue
        speed = np.hypot(*np.diff(track.poses[:, :2], axis=0).T) / STEP_S
        slope = (speed[10:] - speed[:-10]) / (10 * STEP_S)
        step = int(np.argmin(slope))
        if slope[step] > -4.0:
            continue
        to_track = track.poses[step, :2] - ego.poses[step, :2]
        yaw = ego.poses[step, 3]
        is_ahead = to_track @ (np.cos(yaw), np.sin(yaw)) > 0 and np.hypot(*to_track) < 40
        if is_ahead and ego.speeds_mps[step] - ego.speeds_mps[step:].min() >= 1.5:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("event", EVENTS)
def test_most_scenes_have_the_event_that_was_asked_for(played, event):
    named = [traffic.event for traffic in played[event]]
    assert set(named) <= {event, None}
    assert named.count(event) >= 3


@pytest.mark.slow
def test_scenes_named_after_a_crossing_show_one_that_the_ego_vehicle_slows_for(played):
    for traffic in played[CROSSING_PEDESTRIAN]:
        if traffic.event:
            assert list(crossings(traffic))


@pytest.mark.slow
def test_scenes_named_after_an_occluded_pedestrian_show_one_who_was_hidden_when_the_crossing_began(played):
    for traffic in played[OCCLUDED_PEDESTRIAN]:
        if traffic.event:
            assert any(is_behind_a_parked_vehicle(traffic, track, step) for track, step in crossings(traffic))


@pytest.mark.slow
def test_scenes_named_after_a_lead_show_it_brake_hard_with_the_ego_vehicle_close_behind(played):
    for traffic in played[LEAD_BRAKING]:
        if traffic.event:
            assert brakes_hard_ahead_of_the_ego(traffic)


@pytest.mark.slow
@pytest.mark.parametrize("event", EVENTS)
def test_the_ego_vehicle_touches_nobody_in_an_event(played, event):
    for traffic in played[event]:
        for step in range(0, len(traffic.ego.times_s), 4):
            x, y, _, yaw = traffic.ego.poses[step]
            center = x + EGO_CENTER_AHEAD_M * np.cos(yaw), y + EGO_CENTER_AHEAD_M * np.sin(yaw)
            ego = np.array((*center, yaw, EGO_SIZE_LWH[0] / 2, EGO_SIZE_LWH[1] / 2))
            for track in traffic.actors:
                if step < len(track.times_s) and np.hypot(*(track.poses[step, :2] - center)) < 15:
                    half = np.array(track.model.size_lwh[:2]) / 2
                    assert not rectangles_overlap(ego, np.array((*track.poses[step, [0, 1, 3]], *half)))


def test_somebody_is_hidden_only_when_both_shoulders_are():
    car = np.array((10.0, -3.0, 0.0, 2.4, 1.0))
    eye = np.zeros(2)
    assert is_hidden(np.array((13.5, -4.3)), eye, car)
    assert not is_hidden(np.array((13.5, -1.0)), eye, car)
    assert not is_hidden(np.array((8.0, -1.8)), eye, car)  # before the car
    edge = np.array((20.0, -20.0 * 2.0 / 12.4))  # behind the corner: one shoulder shows
    assert not is_hidden(edge, eye, car)
    turned = np.array((10.0, 0.0, np.pi / 2, 2.4, 1.0))
    assert is_hidden(np.array((20.0, 3.0)), eye, turned)
    assert not is_hidden(np.array((20.0, 3.0)), eye, turned + np.array((0, 0, np.pi / 2, 0, 0)))


def test_events_take_turns_and_any_ninety_scenes_hold_every_town_weather_and_event_together():
    assert {ATTENTION.event_of(k) for k in range(3)} == set(EVENTS)
    met = {(ATTENTION.town_kinds[k % 5], ATTENTION.weather_kinds[k % 6], ATTENTION.event_of(k)) for k in range(7, 97)}
    assert len(met) == 90
    assert [ATTENTION.event_of(k) for k in range(90)].count(LEAD_BRAKING) == 30
    assert STANDARD.event_of(2) is None


def test_a_preset_without_events_is_written_as_before_there_were_any():
    assert "events" not in preset_content(STANDARD)
    assert preset_hash(STANDARD) == "1ef830302bd0d545a61ed662ab19c84e98aaf3212bf4a093d844618360b5a442"
    assert preset_content(ATTENTION)["events"] == EVENTS
    assert preset_hash(dataclasses.replace(ATTENTION, events=EVENTS[:1])) != preset_hash(ATTENTION)


@pytest.mark.slow
def test_the_description_begins_with_the_event_only_when_the_scene_shows_it(played, towns):
    traffic = next(traffic for traffic in played[LEAD_BRAKING] if traffic.event)
    weather = SceneRequest(index=0, seed=0, keyframes=1, preset=ATTENTION).weather()
    assert describe(towns[0], weather, traffic).startswith("lead braking, straight, day")
    plain = describe(towns[0], weather, dataclasses.replace(traffic, event=None))
    assert plain.startswith("Straight, day")


def test_the_same_seed_stages_the_same_event_and_an_unknown_one_is_refused(towns):
    first, second = (
        stage_event(LEAD_BRAKING, towns[1], seed=5, duration_s=6.0, burn_in_s=3.0).lead.pose() for _ in range(2)
    )
    assert first == second
    with pytest.raises(ValueError, match="known: crossing pedestrian"):
        stage_event("parade", towns[1], seed=5, duration_s=6.0, burn_in_s=3.0)


def test_the_presets_command_names_the_events(capsys):
    assert command.run(["presets"]) == 0
    assert "events   crossing pedestrian, occluded pedestrian, lead braking" in capsys.readouterr().out

"""Faults: each has its effect within its window, and none outside of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bevstack.data.class_names import CAMERA_NAMES, LIDAR_NAME
from bevstack.data.images import ImageSize
from bevstack.geometry.transforms import from_xy_yaw, rigid_inverse, yaw_of
from bevstack.sim.scenario.road_specs import StraightRoad
from bevstack.sim.scenario.schema import FaultEntry
from bevstack.sim.sensing.fault_kinds import FAULT_KINDS
from bevstack.sim.sensing.faults import FAULTS, FaultSet
from bevstack.sim.sensing.live_sensors import LiveSensors
from bevstack.sim.sensing.track_scenery import static_world_of
from bevstack.sim.sensing.world_state import ActorState, WorldState
from bevstack.sim.sensors.weather import make_weather
from bevstack.sim.world.actors import make_actor
from bevstack.types.cue import Cue
from bevstack.types.trajectory import Route, RouteCommand

SIZE = ImageSize(48, 132)
TIMES = tuple(round(0.1 * k, 1) for k in range(5))
WINDOW = {"from_s": 0.1, "until_s": 0.3}
PARAMETERS = {
    "camera_crop": {"left": 0.25},
    "calibration_drift": {"yaw_rad": 0.05},
    "pose_walk": {"sigma_m": 1.0},
}
ROUTE = Route(
    command=RouteCommand.STRAIGHT, waypoints_ego=np.array([(0.0, 0.0), (10.0, 0.0)]), speed_limit_mps=float("nan")
)


@pytest.fixture(scope="module")
def world():
    return static_world_of(StraightRoad(length_m=150))


@pytest.fixture(scope="module")
def drive(world):
    """Drives 10 m/s past a car, with faults; returns the frames."""
    car = make_actor("car", np.random.default_rng(1), variant="sedan")

    def run(*entries: FaultEntry, cameras: bool = True) -> list:
        sensors = LiveSensors(
            world=world, weather=make_weather("day", np.random.default_rng(0)), seed=5, image_size=SIZE,
            cameras=cameras, num_sweeps=3, faults=entries, threads=1, written_size=SIZE,
        )  # fmt: skip
        actor = ActorState(name="car", class_name="car", model=car, x_m=75.0, y_m=-1.75, yaw_rad=0.0)
        states = [
            WorldState(
                time_s=time_s, ego_x_m=50.0 + 10.0 * time_s, ego_y_m=-1.75, ego_yaw_rad=0.0, speed_mps=10.0,
                actors=(actor,),
            )
            for time_s in TIMES
        ]  # fmt: skip
        return [sensors.observe(state, ROUTE) for state in states]

    return run


@pytest.fixture(scope="module")
def sound(drive):
    return drive()


def entry_of(kind: str, **fields) -> FaultEntry:
    parameters = fields.pop("parameters", PARAMETERS.get(kind, {}))
    return FaultEntry(kind=kind, parameters=parameters, **(WINDOW | fields))


def bytes_of(frame) -> list[bytes]:
    parts = [frame.ego.T_global_ego.tobytes(), frame.route.waypoints_ego.tobytes()]
    for image in frame.cameras:
        parts += [image.name.encode(), image.rgb.tobytes(), image.K_cam.tobytes(), image.T_ego_cam.tobytes()]
        parts.append(str(image.timestamp_us).encode())
    if frame.lidar is not None:
        parts += [frame.lidar.points_ego.tobytes(), str((frame.lidar.timestamp_us, frame.lidar.num_sweeps)).encode()]
    return parts


SENSED = [kind for kind, facts in FAULT_KINDS.items() if facts.target not in ("cue", "controls")]


@pytest.mark.parametrize("kind", SENSED)
def test_a_fault_changes_the_frames_of_its_window_and_no_byte_of_others_and_the_same_seed_repeats_it(
    kind, drive, sound
):
    cameras = FAULT_KINDS[kind].target in ("cameras", "rig")
    reference = [frame if cameras else dataclasses.replace(frame, cameras=()) for frame in sound]
    faulty, again = drive(entry_of(kind), cameras=cameras), drive(entry_of(kind), cameras=cameras)
    changed = [bytes_of(one) != bytes_of(other) for one, other in zip(faulty, reference, strict=True)]
    # A walk starts from where it is at the begin of its window.
    assert changed == [False, kind != "pose_walk", True, False, False]
    assert [bytes_of(frame) for frame in faulty] == [bytes_of(frame) for frame in again]


@pytest.mark.parametrize("kind", ["lidar_beams", "lidar_loss", "lidar_rain", "pose_walk"])
def test_another_seed_gives_another_fault_of_the_same_kind(kind, drive):
    first, second = (drive(entry_of(kind, seed=seed), cameras=False)[2] for seed in (1, 2))
    assert bytes_of(first) != bytes_of(second)


def test_every_kind_has_its_class():
    assert list(FAULTS) == list(FAULT_KINDS)


# -- cameras ----------------------------------------------------------------------------------------------------------
def test_dropped_cameras_are_missing_and_the_others_stay(drive):
    frame = drive(entry_of("camera_drop", sensors=("CAM_FRONT", "CAM_BACK")))[1]
    assert [image.name for image in frame.cameras] == [
        name for name in CAMERA_NAMES if name not in ("CAM_FRONT", "CAM_BACK")
    ]


def test_a_frozen_camera_repeats_the_picture_before_the_window_with_running_stamps(drive, sound):
    frames = drive(entry_of("camera_freeze", sensors=("CAM_FRONT",)))
    for k in (1, 2):
        np.testing.assert_array_equal(frames[k].cameras[0].rgb, sound[0].cameras[0].rgb)
        assert frames[k].cameras[0].timestamp_us == sound[k].cameras[0].timestamp_us
        np.testing.assert_array_equal(frames[k].cameras[1].rgb, sound[k].cameras[1].rgb)


def test_a_late_camera_gives_the_picture_of_some_frames_ago_where_the_camera_was_then(drive, sound):
    late, old = drive(entry_of("camera_delay", parameters={"frames": 2}))[2], sound[0]
    for image, before in zip(late.cameras, old.cameras, strict=True):
        np.testing.assert_array_equal(image.rgb, before.rgb)
        assert image.timestamp_us == before.timestamp_us
        np.testing.assert_allclose(
            late.ego.T_global_ego @ image.T_ego_cam, old.ego.T_global_ego @ before.T_ego_cam, atol=1e-9
        )


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (48, 132, 3), dtype=np.uint8)


def spoilt(kind: str, **parameters: float) -> np.ndarray:
    return FaultSet([entry_of(kind, parameters=parameters)]).picture("CAM_FRONT", picture(), 0.2)


@pytest.mark.parametrize("coverage", [0.1, 0.4])
def test_dirt_darkens_about_the_share_of_the_picture_that_it_covers(coverage):
    touched = (spoilt("camera_dirt", coverage=coverage, opacity=1.0) != picture()).any(axis=2)
    assert touched.mean() == pytest.approx(coverage, abs=0.05)
    assert spoilt("camera_dirt", coverage=1.0, opacity=1.0).std(axis=(0, 1)).max() == 0.0


def test_four_times_the_light_raises_every_code_by_the_tone_curve_up_to_white():
    bright = spoilt("camera_exposure", gain=4.0)
    np.testing.assert_array_equal(bright, np.minimum(255, np.round(picture() * 4.0 ** (1 / 2.2))))
    np.testing.assert_array_equal(spoilt("camera_exposure", gain=1.0), picture())


def test_blur_keeps_the_mean_and_takes_the_contrast():
    blurred = spoilt("camera_blur", sigma_px=3.0)
    assert blurred.mean() == pytest.approx(picture().mean(), abs=1.0)
    assert blurred.std() < 0.2 * picture().std()


def test_a_crop_blackens_its_margins_only():
    cut = spoilt("camera_crop", left=0.25, bottom=0.5)
    assert not cut[:, :33].any()
    assert not cut[24:].any()
    np.testing.assert_array_equal(cut[:24, 33:], picture()[:24, 33:])


# -- LiDAR ------------------------------------------------------------------------------------------------------------
def sweep(range_m: float = 50.0) -> np.ndarray:
    azimuth = np.linspace(-np.pi, np.pi, 32 * 500, endpoint=False)
    rows = np.stack((-np.sin(azimuth), np.cos(azimuth), 0 * azimuth), axis=1) * range_m
    rings = np.arange(len(rows)) % 32
    return np.column_stack((rows, np.full(len(rows), 100.0), rings)).astype(np.float32)


def swept(kind: str, points: np.ndarray, **parameters: float) -> np.ndarray:
    return FaultSet([entry_of(kind, parameters=parameters)]).sweep(points, 0.2, 0.2)


def test_dead_beams_are_missing_whole_and_the_others_are_complete():
    left = swept("lidar_beams", sweep(), count=12)
    rings, counts = np.unique(left[:, 4], return_counts=True)
    assert len(rings) == 20
    assert (counts == 500).all()


def test_a_blind_sector_on_the_left_takes_its_share_of_the_points_there():
    left = swept("lidar_sector", sweep(), azimuth_rad=np.pi / 2, width_rad=np.pi / 2)
    assert len(left) / len(sweep()) == pytest.approx(0.75, abs=0.001)
    azimuth = np.arctan2(-left[:, 0], left[:, 1])  # x right, y ahead -> angle from ahead to the left
    assert np.abs(azimuth - np.pi / 2).min() > np.pi / 4 - 0.01


def test_loss_takes_the_given_share():
    assert len(swept("lidar_loss", sweep(), share=0.3)) / len(sweep()) == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("range_m", [10.0, 50.0])
def test_rain_leaves_the_share_and_the_strength_of_beer_and_lambert(range_m):
    left = swept("lidar_rain", sweep(range_m), extinction_per_m=0.01, backscatter=0.0)
    expected = np.exp(-2 * 0.01 * range_m)
    assert len(left) / len(sweep()) == pytest.approx(expected, abs=0.01)
    np.testing.assert_array_equal(left[:, 3], np.floor(np.float32(100.0 * expected)))


def test_backscatter_answers_from_nearby_in_the_direction_of_the_lost_beam():
    left = swept("lidar_rain", sweep(), extinction_per_m=1.0, backscatter=0.5)
    distance = np.linalg.norm(left[:, :3], axis=1)
    assert len(left) / len(sweep()) == pytest.approx(0.5, abs=0.02)
    assert (distance >= 1.49).all()
    assert (distance < 11.6).all()
    assert left[:, 3].max() < 8


def test_a_late_lidar_gives_the_sweeps_of_before_moved_with_the_vehicle(drive, sound):
    late, old = drive(entry_of("lidar_delay", parameters={"frames": 2}), cameras=False)[2], sound[0]
    assert late.lidar.timestamp_us == old.lidar.timestamp_us
    moved = old.lidar.points_ego.copy()
    moved[:, 0] -= 2.0  # 0.2 s at 10 m/s
    moved[:, 4] += 0.2
    np.testing.assert_allclose(late.lidar.points_ego, moved, atol=1e-4)


def test_a_lidar_with_a_fast_clock_gives_old_points_as_if_they_were_new(drive, sound):
    parameters = {"offset_s": 0.1}
    late = drive(entry_of("time_offset", sensors=(LIDAR_NAME,), parameters=parameters), cameras=False)[1]
    key = late.lidar.points_ego[late.lidar.points_ego[:, 4] == 0]
    before = sound[0].lidar.points_ego[sound[0].lidar.points_ego[:, 4] == 0]
    np.testing.assert_allclose(key, before, atol=1e-4)
    assert late.lidar.timestamp_us == late.timestamp_us


def test_a_dropped_lidar_is_not_there(drive):
    assert [frame.lidar is None for frame in drive(entry_of("lidar_drop"), cameras=False)] == [
        False, True, True, False, False,
    ]  # fmt: skip


def test_a_probability_of_a_half_strikes_about_half_of_the_frames():
    faults = FaultSet([FaultEntry(kind="cue_absent", parameters={"probability": 0.5})])
    absent = [faults.cue(cue(), 0.1 * k) is None for k in range(400)]
    assert np.mean(absent) == pytest.approx(0.5, abs=0.08)


# -- calibration, clock, pose -----------------------------------------------------------------------------------------
def test_a_turned_camera_has_a_wrong_matrix_and_the_right_picture(drive, sound):
    frame = drive(entry_of("calibration_drift", parameters={"yaw_rad": 0.05, "z_m": 0.1, "focal_scale": 1.1}))[1]
    for wrong, right in zip(frame.cameras, sound[1].cameras, strict=True):
        np.testing.assert_array_equal(wrong.rgb, right.rgb)
        turn = wrong.T_ego_cam @ rigid_inverse(right.T_ego_cam)
        assert yaw_of(turn) == pytest.approx(0.05)
        np.testing.assert_allclose(wrong.T_ego_cam[:3, 3] - right.T_ego_cam[:3, 3], (0.0, 0.0, 0.1), atol=1e-12)
        assert wrong.K_cam[0, 0] == pytest.approx(1.1 * right.K_cam[0, 0])
        assert wrong.K_cam[0, 2] == right.K_cam[0, 2]
    np.testing.assert_array_equal(frame.lidar.points_ego, sound[1].lidar.points_ego)


def test_a_turned_lidar_turns_its_points_about_itself(drive, sound):
    entry = entry_of("calibration_drift", sensors=(LIDAR_NAME,), parameters={"yaw_rad": 0.1})
    frame, right = drive(entry, cameras=False)[1], sound[1]
    place = np.array((0.94, 0.0, 1.84))
    turned = (right.lidar.points_ego[:, :3] - place) @ from_xy_yaw(0.0, 0.0, 0.1)[:3, :3].T + place
    np.testing.assert_allclose(frame.lidar.points_ego[:, :3], turned, atol=1e-4)


def test_a_ramp_grows_from_nothing_to_all(drive, sound):
    frames = drive(entry_of("calibration_drift", parameters={"yaw_rad": 0.1, "ramp_s": 0.2}))
    turns = [yaw_of(f.cameras[0].T_ego_cam @ rigid_inverse(s.cameras[0].T_ego_cam)) for f, s in zip(frames, sound)]
    np.testing.assert_allclose(turns, (0.0, 0.0, 0.05, 0.0, 0.0), atol=1e-9)


def test_cameras_with_a_fast_clock_show_the_world_of_before_under_the_stamp_of_now(drive, sound):
    frame = drive(entry_of("time_offset", parameters={"offset_s": 0.1}))[1]
    for image, now, before in zip(frame.cameras, sound[1].cameras, sound[0].cameras, strict=True):
        assert image.timestamp_us == now.timestamp_us
        to_now, to_before = (np.abs(image.rgb.astype(int) - other.rgb).mean() for other in (now, before))
        assert to_before < to_now  # the noise is that of now, so not equal


def test_a_biased_pose_carries_the_route_with_it(drive, sound):
    frame, right = (
        drive(entry_of("pose_bias", parameters={"x_m": 0.0, "y_m": 1.0, "yaw_rad": 0.1}), cameras=False)[1],
        sound[1],
    )
    np.testing.assert_allclose(frame.ego.T_global_ego, right.ego.T_global_ego @ from_xy_yaw(0.0, 1.0, 0.1))
    ahead = np.column_stack((frame.route.waypoints_ego, (0, 0), (1, 1))) @ frame.ego.T_global_ego.T
    expected = np.column_stack((ROUTE.waypoints_ego, (0, 0), (1, 1))) @ right.ego.T_global_ego.T
    np.testing.assert_allclose(ahead, expected, atol=1e-9)


def test_a_walking_pose_spreads_as_the_root_of_time(sound):
    ends = []
    for seed in range(300):
        faults = FaultSet([FaultEntry(kind="pose_walk", seed=seed, parameters={"sigma_m": 0.5, "sigma_rad": 0.0})])
        for time_s in np.arange(0.0, 4.05, 0.5):
            frame = faults.frame(sound[0], float(time_s))
        ends.append((rigid_inverse(sound[0].ego.T_global_ego) @ frame.ego.T_global_ego)[:2, 3])
    assert np.std(ends) == pytest.approx(0.5 * 2.0, rel=0.1)


# -- cues and controls ------------------------------------------------------------------------------------------------
def cue(mirrored: bool = True) -> Cue:
    rows = np.eye(4, dtype=np.float32)
    return Cue(
        text="a cyclist on the left", embedding=rows[0], mirrored_embedding=rows[1] if mirrored else None,
        frame_token="t", timestamp_us=0, source="s",
    )  # fmt: skip


def test_a_cue_is_absent_in_the_window_of_its_fault_only():
    faults = FaultSet([entry_of("cue_absent")])
    assert [faults.cue(cue(), time_s) is None for time_s in TIMES] == [False, True, True, False, False]
    assert faults.cue(None, 0.0) is None


def test_a_wrong_cue_takes_left_for_right_or_speaks_of_something_else():
    faults = FaultSet([entry_of("cue_wrong")])
    np.testing.assert_array_equal(faults.cue(cue(), 0.2).embedding, cue().mirrored_embedding)
    other, again = (faults.cue(cue(mirrored=False), 0.2).embedding for _ in range(2))
    np.testing.assert_array_equal(other, again)
    assert np.linalg.norm(other) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(other - cue().embedding).max() > 0.1


def test_delays_of_controls_add_up_within_their_windows():
    faults = FaultSet(
        [entry_of("control_latency", parameters={"delay_s": 0.3}), FaultEntry(kind="control_latency", from_s=0.2)]
    )
    assert [faults.control_delay_s(time_s) for time_s in TIMES] == pytest.approx([0.0, 0.3, 0.5, 0.2, 0.2])


# -- entries ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (FaultEntry(kind="camera_dirty"), r"no fault 'camera_dirty'.*camera_dirt"),
        (FaultEntry(kind="warp"), r"no fault 'warp'; there are camera_drop"),
        (FaultEntry(kind="camera_blur", parameters={"sigma": 2.0}), r"no parameter 'sigma'.*sigma_px"),
        (FaultEntry(kind="camera_blur", parameters={"sigma_px": -1.0}), r"sigma_px=-1.* 0\.1 to 50"),
        (FaultEntry(kind="lidar_beams", parameters={"count": 2.5}), "whole number"),
        (FaultEntry(kind="camera_drop", sensors=("CAM_FRONT_LEF",)), r"CAM_FRONT_LEF.*CAM_FRONT_LEFT"),
        (FaultEntry(kind="camera_drop", sensors=(LIDAR_NAME,)), "not about sensor 'LIDAR_TOP'"),
        (FaultEntry(kind="cue_absent", sensors=("CAM_FRONT",)), "leave sensors out"),
        (FaultEntry(kind="camera_drop", from_s=2.0, until_s=1.0), r"until_s=1\.0 must be later"),
        (FaultEntry(kind="camera_drop", from_s="start"), "concrete"),
        (FaultEntry(kind="camera_exposure", parameters={"gain": "2 * g"}), "concrete"),
        (
            FaultEntry(kind="time_offset", sensors=(LIDAR_NAME,), parameters={"offset_s": 0.07}),
            r"multiple of 0\.05",
        ),
    ],
)
def test_an_impossible_entry_is_named_with_what_is_possible(entry, message):
    with pytest.raises(ValueError, match=message):
        FaultSet([entry])


def test_all_impossible_entries_are_named_at_once():
    with pytest.raises(ValueError, match=r"(?s)'one'.*'two'"):
        FaultSet([FaultEntry(kind="one"), FaultEntry(kind="two")])


def test_the_page_about_faults_names_every_kind_with_all_its_parameters():
    page = Path(__file__).parents[3] / "docs" / "faults.md"
    rows = {line.split("`")[1]: line for line in page.read_text().splitlines() if line.startswith("| `")}
    assert list(rows) == list(FAULT_KINDS)
    for name, kind in FAULT_KINDS.items():
        assert all(f"`{parameter}`" in rows[name] for parameter in kind.parameters), name

"""The ego vehicle's sensors while a world goes on."""

import dataclasses

import numpy as np
import pytest
from fixtures.worlds import tiny_preset

from bevstack.data.class_names import CAMERA_NAMES
from bevstack.data.images import ImageSize
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.sim.make import make_worlds
from bevstack.sim.nuscenes_tables import SPLIT
from bevstack.sim.nuscenes_writer import SceneRequest, SceneWriter
from bevstack.sim.sensing.live_sensors import WRITTEN_SIZE, LiveScene, LiveSensors
from bevstack.sim.sensing.world_state import ActorState, StaticWorld, WorldState
from bevstack.sim.world.traffic import TRACK_STEP_S

PRESET = dataclasses.replace(tiny_preset(), sweeps_per_keyframe=10)
WRITTEN = ImageSize(PRESET.image_height_px, PRESET.image_width_px)
READ = ImageSize(64, 176)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return SceneWriter(tmp_path_factory.mktemp("scene"), SceneRequest(index=0, seed=3, keyframes=2, preset=PRESET))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("live") / "world"
    make_worlds(root, scenes=1, seed=3, preset=PRESET, keyframes_per_scene=2, show_progress=False)
    return NuScenesFrames(root=root, split=SPLIT, image_size=READ, with_annotations=False)


def state_of(scene: SceneWriter, step: int) -> WorldState:
    time_s = step * TRACK_STEP_S
    x, y, z, yaw = scene.traffic.ego.pose_at(time_s).tolist()
    actors = []
    for index, track in enumerate(scene.traffic.actors):
        row = track.step_at(time_s)
        if row >= 0:
            ax, ay, az, ayaw = track.pose_at(time_s).tolist()
            actors.append(
                ActorState(
                    name=str(index), class_name=track.model.class_name, model=track.model,
                    x_m=ax, y_m=ay, z_m=az, yaw_rad=ayaw, phase=int(track.phase_index[row]),
                )
            )  # fmt: skip
    return WorldState(time_s=time_s, ego_x_m=x, ego_y_m=y, ego_z_m=z, ego_yaw_rad=yaw, actors=tuple(actors))


def sensors_of(scene: SceneWriter, **options) -> LiveSensors:
    defaults = {
        "world": StaticWorld.of_town(scene.town), "weather": scene.scene.weather, "seed": 3, "image_size": READ,
        "cameras": False, "written_size": WRITTEN, "warm_up": False, "threads": 1,
        "scene": LiveScene(start_us=scene.start_us, offset_xy=scene.request.offset),
    }  # fmt: skip
    return LiveSensors(**(defaults | options))


@pytest.fixture(scope="module")
def frames(scene):
    """The two key frames of the scene, as the vehicle senses them."""
    sensors = sensors_of(scene, cameras=True)
    found = []
    for step in range(1, 21):
        if step % 10:
            sensors.advance(state_of(scene, step))
        else:
            found.append(sensors.observe(state_of(scene, step), None))
    return found


def test_points_of_a_played_scene_are_those_of_its_written_files(frames, written):
    for live, stored in zip(frames, (written[0], written[1]), strict=True):
        assert live.lidar.points_ego.shape == stored.lidar.points_ego.shape
        np.testing.assert_allclose(live.lidar.points_ego, stored.lidar.points_ego, atol=1e-5, rtol=0)
        assert live.lidar.num_sweeps == stored.lidar.num_sweeps == 10
        assert live.lidar.timestamp_us == stored.lidar.timestamp_us == live.timestamp_us == stored.timestamp_us


def test_pictures_of_a_played_scene_are_those_of_its_written_files(frames, written):
    for live, stored in zip(frames, (written[0], written[1]), strict=True):
        assert tuple(image.name for image in live.cameras) == CAMERA_NAMES
        for ours, theirs in zip(live.cameras, stored.cameras, strict=True):
            np.testing.assert_array_equal(ours.rgb, theirs.rgb)
            np.testing.assert_allclose(ours.K_cam, theirs.K_cam, atol=1e-9)
            np.testing.assert_allclose(ours.T_ego_cam, theirs.T_ego_cam, atol=1e-9)
            assert ours.timestamp_us == theirs.timestamp_us


def test_the_vehicle_of_a_played_scene_moves_as_in_its_written_files(frames, written):
    for live, stored in zip(frames, (written[0], written[1]), strict=True):
        np.testing.assert_allclose(live.ego.T_global_ego, stored.ego.T_global_ego, atol=1e-9)
        for name in ("speed_mps", "acceleration_mps2", "yaw_rate_radps"):
            assert getattr(live.ego, name) == pytest.approx(getattr(stored.ego, name), abs=1e-6)


def test_ten_frames_a_second_hold_two_new_sweeps_each(scene):
    sensors = sensors_of(scene)
    counts = [sensors.observe(state_of(scene, step), None).lidar.num_sweeps for step in (2, 4, 6, 14)]
    assert counts == [1, 3, 5, 10]


def test_a_warm_start_has_all_sweeps_and_the_motion_of_the_first_state(scene):
    first = dataclasses.replace(state_of(scene, 0), speed_mps=7.0, yaw_rate_radps=0.1)
    frame = sensors_of(scene, warm_up=True).observe(first, None)
    assert frame.lidar.num_sweeps == 10
    assert frame.lidar.points_ego[:, 4].max() == pytest.approx(0.45)
    assert frame.ego.speed_mps == pytest.approx(7.0, abs=1e-3)
    assert frame.ego.yaw_rate_radps == pytest.approx(0.1, abs=1e-6)
    assert frame.ego.acceleration_mps2 == pytest.approx(0.0, abs=0.02)


def test_threads_change_no_byte(scene):
    states = [state_of(scene, step) for step in (0, 2)]
    for one, four in zip(
        played(sensors_of(scene, cameras=True), states), played(sensors_of(scene, cameras=True, threads=4), states)
    ):
        assert_same(one, four)


def test_after_a_reset_the_same_states_give_the_same_frames(scene):
    states = [state_of(scene, step) for step in (0, 2)]
    sensors = sensors_of(scene)
    first = played(sensors, states)
    sensors.reset()
    for before, after in zip(first, played(sensors, states), strict=True):
        assert_same(before, after)


def test_an_open_shutter_smears_what_moves_and_nothing_else(scene):
    states = [dataclasses.replace(state_of(scene, 0), time_s=time_s, actors=()) for time_s in (0.0, 0.1)]
    driven = [dataclasses.replace(state, ego_yaw_rad=state.ego_yaw_rad + 0.5 * state.time_s) for state in states]
    still, smeared = (
        [played(sensors_of(scene, cameras=True, shutter_s=shutter), way)[-1] for shutter in (0.0, 0.02)]
        for way in (states, driven)
    )
    for sharp, smooth in zip(still[0].cameras, still[1].cameras, strict=True):
        assert np.abs(sharp.rgb.astype(int) - smooth.rgb).max() <= 3
    difference = [np.abs(a.rgb.astype(int) - b.rgb).mean() for a, b in zip(smeared[0].cameras, smeared[1].cameras)]
    assert max(difference) > 1.0


def test_pictures_are_made_in_the_size_of_worlds_unless_more_is_asked_for(scene):
    assert sensors_of(scene, written_size=None).made_size == WRITTEN_SIZE
    large = ImageSize(512, 1408)
    assert sensors_of(scene, written_size=None, image_size=large).made_size == large


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_sweeps": -1}, "num_sweeps=-1"),
        ({"threads": 0}, "threads=0"),
        ({"shutter_s": 1.0}, "shutter_s=1.0"),
    ],
)
def test_impossible_options_are_named(scene, options, message):
    with pytest.raises(ValueError, match=message):
        sensors_of(scene, **options)


def test_states_out_of_order_or_between_two_sweeps_are_named(scene):
    sensors = sensors_of(scene)
    sensors.observe(state_of(scene, 2), None)
    with pytest.raises(ValueError, match="order of time"):
        sensors.observe(state_of(scene, 2), None)
    with pytest.raises(ValueError, match=r"multiple of 0\.05"):
        sensors.observe(dataclasses.replace(state_of(scene, 2), time_s=0.23), None)


def test_a_rig_without_lidar_has_pictures_only(scene):
    frame = sensors_of(scene, cameras=True, num_sweeps=0).observe(state_of(scene, 0), None)
    assert frame.lidar is None
    assert len(frame.cameras) == 6


def played(sensors, states):
    return [sensors.observe(state, None) for state in states]


def assert_same(first, second):
    np.testing.assert_array_equal(first.lidar.points_ego, second.lidar.points_ego)
    assert len(first.cameras) == len(second.cameras)
    for one, other in zip(first.cameras, second.cameras):
        np.testing.assert_array_equal(one.rgb, other.rgb)
        np.testing.assert_array_equal(one.T_ego_cam, other.T_ego_cam)

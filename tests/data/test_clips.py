"""Clips: which frames come before a frame, how they are augmented, how histories of different lengths are batched."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.planned_frames import planned_frame
from fixtures.scenes import TIMESTAMP_US, one_car_ahead

from bevstack.build import build_loader, compose
from bevstack.data.augment import ImageAugmentation, SensorDropout, WorldAugmentation
from bevstack.data.clips import NO_SCENE, Clip, earlier_frames, history_rows
from bevstack.data.collate import collate, collate_clips
from bevstack.data.loader import FrameDataset, SampleKey, make_loader
from bevstack.geometry.transforms import from_xy_yaw, inverse
from bevstack.types import Batch, Frame
from bevstack.types.errors import DatasetError

MIRRORS = WorldAugmentation(rotation_rad=0.0, scale_range=(1.0, 1.0), flip_x_probability=0.0)


class TwoDrives:
    """Five frames of scene-a, four of scene-b, half a second apart; the vehicle goes 2 m along x in between."""

    def __init__(self, frame: Frame | None = None, broken: int | None = None) -> None:
        frame = planned_frame() if frame is None else frame
        self.frames = [self._at(frame, scene, k) for scene, count in (("a", 5), ("b", 4)) for k in range(count)]
        self.broken = broken

    @staticmethod
    def _at(frame: Frame, scene: str, k: int) -> Frame:
        time_us = TIMESTAMP_US + 500_000 * k
        return replace(
            frame,
            token=f"{scene}{k}",
            scene_name=f"scene-{scene}",
            timestamp_us=time_us,
            cameras=frame.cameras[:2],
            cue=None,
            ego=replace(frame.ego, T_global_ego=from_xy_yaw(2.0 * k, 50.0, 0.0)),
        )

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        if index == self.broken:
            raise DatasetError(f"sweeps/{index}.bin: truncated: fetch this file again")
        return self.frames[index]


class WithInputs(TwoDrives):
    """Counts what is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.num_labelled = 0

    def __getitem__(self, index: int) -> Frame:
        self.num_labelled += 1
        return super().__getitem__(index)

    def inputs(self, index: int) -> Frame:
        return replace(self.frames[index], annotations=None)


def tokens_before(index: int, count: int, step: int = 1) -> list[str]:
    drives = TwoDrives()
    return [frame.token for frame in earlier_frames(drives, index, drives[index], count=count, step=step)]


def clips_of(*indices: int, count: int = 2) -> list[Clip]:
    drives = TwoDrives()
    return [Clip(frame=drives[k], history=earlier_frames(drives, k, drives[k], count=count)) for k in indices]


# -- which frames -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("index", "count", "step", "expected"),
    [
        (4, 2, 1, ["a2", "a3"]),
        (4, 2, 2, ["a0", "a2"]),
        (4, 9, 2, ["a0", "a2"]),
        (1, 3, 1, ["a0"]),
        (0, 3, 1, []),
        (1, 3, 2, []),
        (5, 3, 1, []),
        (6, 3, 1, ["b0"]),
        (6, 3, 2, []),
        (8, 0, 1, []),
    ],
)
def test_history_goes_back_to_the_start_of_the_scene_and_not_beyond(
    index: int, count: int, step: int, expected: list[str]
) -> None:
    assert tokens_before(index, count, step) == expected


def test_frames_of_the_past_carry_no_labels_and_a_source_is_not_asked_for_them() -> None:
    drives = WithInputs()
    history = FrameDataset(drives, num_history=3).clip(SampleKey(0, 4)).history
    assert [frame.annotations for frame in history] == [None] * 3 and drives.num_labelled == 1
    assert all(frame.annotations is None for clip in clips_of(4) for frame in clip.history)


def test_a_scene_whose_time_runs_backwards_is_not_followed() -> None:
    drives = TwoDrives()
    drives.frames[3] = replace(drives.frames[3], timestamp_us=drives.frames[4].timestamp_us)
    assert earlier_frames(drives, 4, drives[4], count=3) == ()


# -- batches ----------------------------------------------------------------------------------------------------------
def test_histories_of_one_length_are_batched_step_by_step() -> None:
    batch, labels = collate_clips(clips_of(4, 8))
    assert [past.tokens for past in batch.history] == [("a2", "b1"), ("a3", "b2")]
    assert labels is not None and batch.tokens == ("a4", "b3")
    drives = TwoDrives()
    alone, _ = collate([drives[2], drives[6]])
    assert torch.equal(batch.history[0].images, alone.images)
    assert torch.equal(batch.history[0].points_ego, alone.points_ego)
    assert torch.equal(batch.history[0].T_global_ego, alone.T_global_ego)


def test_a_frame_with_fewer_before_it_gets_blanks_that_no_memory_joins_with_it() -> None:
    batch, _ = collate_clips(clips_of(4, 6, 5))
    assert [past.tokens for past in batch.history] == [("a2", "", ""), ("a3", "b0", "")]
    oldest = batch.history[0]
    assert oldest.scene_names == ("scene-a", NO_SCENE, NO_SCENE)
    assert oldest.camera_mask.any(dim=1).tolist() == oldest.lidar_mask.tolist() == [True, False, False]
    assert (oldest.point_frame_index == 0).all() and oldest.images[1:].max() == 0
    assert oldest.images.shape == batch.images.shape and oldest.T_global_ego.isfinite().all()
    assert oldest.timestamps_us[1] == batch.history[1].timestamps_us[1]


def test_a_batch_of_first_frames_has_no_history() -> None:
    assert collate_clips(clips_of(0, 5))[0].history == ()
    assert history_rows([]) == ()


def test_clips_without_history_are_batched_as_frames_are() -> None:
    drives = TwoDrives()
    batch, _ = collate_clips(clips_of(4, 8, count=0))
    expected, _ = collate([drives[4], drives[8]])
    assert batch.history == () and torch.equal(batch.images, expected.images)


# -- augmentation -----------------------------------------------------------------------------------------------------
def test_the_world_of_a_clip_moves_as_one() -> None:
    augmentations = (ImageAugmentation(), WorldAugmentation(), SensorDropout(p_one_camera=0.5))
    dataset = FrameDataset(TwoDrives(), augmentations, seed=2, num_history=3)
    for epoch in range(4):
        clip = dataset.clip(SampleKey(epoch, 4))
        maps = [
            inverse(frame.ego.T_global_ego) @ from_xy_yaw(2.0 * k, 50.0, 0.0)
            for k, frame in zip((1, 2, 3, 4), (*clip.history, clip.frame), strict=True)
        ]
        for G_ego in maps[1:]:
            np.testing.assert_allclose(G_ego, maps[0], atol=1e-9)


def test_pictures_and_sensors_of_a_clip_change_independently() -> None:
    augmentations = (MIRRORS, ImageAugmentation(), SensorDropout(p_one_camera=0.5))
    dataset = FrameDataset(TwoDrives(), augmentations, seed=2, num_history=1)
    clips = [dataset.clip(SampleKey(epoch, 4)) for epoch in range(12)]
    for clip in clips:
        assert not np.allclose(clip.frame.cameras[0].K_cam, clip.history[0].cameras[0].K_cam)
    num_cameras = {(len(clip.frame.cameras), len(clip.history[0].cameras)) for clip in clips}
    assert len(num_cameras) > 2


def test_a_frame_is_the_same_with_and_without_its_history() -> None:
    augmentations = (ImageAugmentation(), WorldAugmentation(), SensorDropout(p_one_camera=0.5))
    alone, followed = (FrameDataset(TwoDrives(), augmentations, seed=2, num_history=n) for n in (0, 3))
    for epoch in range(3):
        a, b = alone[SampleKey(epoch, 4)], followed.clip(SampleKey(epoch, 4)).frame
        np.testing.assert_array_equal(a.lidar.points_ego, b.lidar.points_ego)
        assert [camera.name for camera in a.cameras] == [camera.name for camera in b.cameras]
        np.testing.assert_array_equal(a.cameras[0].rgb, b.cameras[0].rgb)


# -- the loader -------------------------------------------------------------------------------------------------------
def batches_of(**options: object) -> list[Batch]:
    return [batch for batch, _ in make_loader(TwoDrives(), batch_size=3, **options)]


def test_a_loader_hands_out_histories() -> None:
    batches = batches_of(num_history=2)
    assert [batch.tokens for batch in batches] == [("a0", "a1", "a2"), ("a3", "a4", "b0"), ("b1", "b2", "b3")]
    assert [past.tokens for past in batches[0].history] == [("", "", "a0"), ("", "a0", "a1")]
    assert [past.tokens for past in batches[2].history] == [("", "b0", "b1"), ("b0", "b1", "b2")]
    apart = batches_of(num_history=1, history_step=2)
    assert [past.tokens for past in apart[1].history] == [("a1", "a2", "")]
    assert all(batch.history == () for batch in batches_of())


def test_a_damaged_frame_of_the_past_is_reported_as_any_other() -> None:
    with pytest.raises(DatasetError, match=r"sweeps/3\.bin: truncated"):
        list(make_loader(TwoDrives(broken=3), batch_size=1, num_history=2))


def test_impossible_numbers_are_refused() -> None:
    for options in ({"num_history": -1}, {"num_history": 1, "history_step": 0}):
        with pytest.raises(ValueError, match="must be at least"):
            make_loader(TwoDrives(), batch_size=1, **options)


def test_the_configuration_asks_for_history() -> None:
    overrides = ["experiment=fusion_small", "data.num_history=2", "data.history_step=2", "input.image_size.height=64"]
    config = compose([*overrides, "input.image_size.width=176"])
    batches = [batch for batch, _ in build_loader(config, TwoDrives(), "val", batch_size=5)]
    assert [past.tokens for past in batches[0].history] == [("", "", "", "", "a0"), ("", "", "a0", "a1", "a2")]
    assert compose(["experiment=fusion_small"]).data.num_history == 0


def test_a_plain_frame_without_a_route_has_a_history_too() -> None:
    drives = TwoDrives(replace(one_car_ahead(), lidar=None))
    batch, _ = next(iter(make_loader(drives, batch_size=2, num_history=1)))
    assert not batch.history[0].lidar_mask.any() and batch.history[0].camera_mask.any(dim=1).tolist() == [False, True]

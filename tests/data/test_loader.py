"""Loading: the same samples whatever the number of workers, processes and interruptions."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.scenes import one_car_ahead
from torch.utils.data import DistributedSampler

from bevstack.data.augment import ImageAugmentation, SensorDropout, WorldAugmentation
from bevstack.data.images import ImageSize
from bevstack.data.loader import (
    EpochSampler,
    FrameDataset,
    FrameLoader,
    SampleKey,
    class_balanced_indices,
    classes_of_frames,
    make_loader,
)
from bevstack.types import Batch, Frame
from bevstack.types.errors import DatasetError

AUGMENTATIONS = (ImageAugmentation(), WorldAugmentation())


class TinyDrive:
    """Nine frames: a car ever farther ahead; only two cameras, to be quick."""

    def __init__(self, length: int = 9, broken: int | None = None) -> None:
        frame = one_car_ahead()
        self.frames = [replace(frame, token=f"frame-{i}", cameras=frame.cameras[:2]) for i in range(length)]
        self.broken = broken

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        if index == self.broken:
            raise DatasetError(f"sweeps/{index}.bin: truncated: fetch this file again")
        return self.frames[index]


def loader_of(**changes: object) -> FrameLoader:
    settings = {"batch_size": 2, "shuffle": True, "seed": 3, "augmentations": AUGMENTATIONS}
    return make_loader(TinyDrive(), **(settings | changes))


def epochs_of(loader: FrameLoader, epochs: range) -> list[Batch]:
    batches = []
    for epoch in epochs:
        loader.set_epoch(epoch)
        batches += [batch for batch, _ in loader]
    return batches


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    assert [batch.tokens for batch in a] == [batch.tokens for batch in b]
    for first, second in zip(a, b, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.points_ego, second.points_ego)
        assert torch.equal(first.T_ego_cam, second.T_ego_cam)


def test_the_number_of_workers_changes_nothing() -> None:
    alone = epochs_of(loader_of(num_workers=0), range(2))
    helped = epochs_of(loader_of(num_workers=2), range(2))
    assert_same(alone, helped)


@pytest.mark.parametrize("stop_after", [1, 4, 5])
def test_a_resumed_run_sees_exactly_the_rest(stop_after: int) -> None:
    whole = epochs_of(loader_of(), range(2))  # 5 batches an epoch
    first = loader_of()
    first.set_epoch(0)
    iterator = iter(first)
    for _ in range(stop_after):
        next(iterator)
    state = first.state_dict()

    second = loader_of()
    second.load_state_dict(state)
    rest = [batch for batch, _ in second]
    if second.epoch == 0:
        rest += epochs_of(second, range(1, 2))
    assert_same(rest, whole[stop_after:])


def test_setting_the_same_epoch_again_keeps_the_position_and_another_one_starts_anew() -> None:
    loader = loader_of()
    loader.set_position(epoch=4, batches_done=3)
    loader.set_epoch(4)
    assert len(list(loader)) == 2
    loader.set_position(epoch=4, batches_done=3)
    loader.set_epoch(5)
    assert len(list(loader)) == 5
    assert len(loader) == 5


def test_a_new_pass_over_the_same_epoch_is_complete_and_equal() -> None:
    loader = loader_of()
    first = [batch for batch, _ in loader]
    assert_same(first, [batch for batch, _ in loader])


def test_every_epoch_has_another_order_and_other_augmentations() -> None:
    loader = loader_of()
    first, second = epochs_of(loader, range(1)), epochs_of(loader, range(1, 2))
    assert [batch.tokens for batch in first] != [batch.tokens for batch in second]
    dataset = FrameDataset(TinyDrive(), AUGMENTATIONS, seed=3)
    points = [dataset[SampleKey(epoch, 5)].lidar.points_ego for epoch in (0, 1)]
    assert not np.array_equal(*points)
    other_seed = FrameDataset(TinyDrive(), AUGMENTATIONS, seed=4)[SampleKey(0, 5)].lidar.points_ego
    assert not np.array_equal(points[0], other_seed)


def test_without_shuffling_frames_come_in_order_and_unchanged() -> None:
    loader = loader_of(shuffle=False, augmentations=())
    tokens = [token for batch, _ in loader for token in batch.tokens]
    assert tokens == [f"frame-{i}" for i in range(9)]


@pytest.mark.parametrize("num_replicas", [2, 4])
def test_training_processes_share_an_epoch_evenly_and_completely(num_replicas: int) -> None:
    shards = [
        [key.frame_index for key in EpochSampler(9, shuffle=True, seed=1, num_replicas=num_replicas, rank=rank)]
        for rank in range(num_replicas)
    ]
    assert len({len(shard) for shard in shards}) == 1
    counts = Counter(index for shard in shards for index in shard)
    assert set(counts) == set(range(9))
    assert sum(counts.values()) - 9 < num_replicas


def test_evaluation_processes_see_each_frame_exactly_once() -> None:
    shards = [
        [key.frame_index for key in EpochSampler(9, shuffle=False, num_replicas=4, rank=rank)] for rank in range(4)
    ]
    assert sorted(index for shard in shards for index in shard) == list(range(9))


def test_more_processes_than_frames_still_give_each_one_a_sample_to_train_on() -> None:
    assert [len(list(EpochSampler(2, shuffle=True, num_replicas=5, rank=rank))) for rank in range(5)] == [1] * 5


def test_a_repeated_frame_is_augmented_anew_each_time() -> None:
    keys = list(EpochSampler(2, shuffle=True, frame_classes=[[0], [0, 1, 1]]))
    assert len(keys) == len(set(keys))
    dataset = FrameDataset(TinyDrive(), AUGMENTATIONS)
    first, second = dataset[SampleKey(0, 1, 0)], dataset[SampleKey(0, 1, 1)]
    assert not np.array_equal(first.lidar.points_ego, second.lidar.points_ego)


def test_class_balanced_epochs_draw_rare_classes_as_often_as_common_ones() -> None:
    frame_classes = [[0]] * 95 + [[0, 7]] * 5
    drawn = class_balanced_indices(frame_classes, np.random.default_rng(0))
    assert len(drawn) == 106  # (100 + 5) pairs, rounded up to the same number for both classes
    holds_rare = np.isin(drawn, range(95, 100)).sum()
    assert 53 <= holds_rare <= 62  # all 53 draws of class 7, and a twentieth of those of class 0


def test_class_balancing_without_any_object_is_refused() -> None:
    with pytest.raises(ValueError, match="no frame contains any object"):
        class_balanced_indices([[], []], np.random.default_rng(0))


def test_classes_of_frames_reads_them_from_the_annotations() -> None:
    assert classes_of_frames(TinyDrive(2)) == [(0,), (0,)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_file_is_reported_in_its_own_single_line(num_workers: int) -> None:
    loader = make_loader(TinyDrive(length=3, broken=2), batch_size=1, num_workers=num_workers)
    with pytest.raises(DatasetError) as caught:
        list(loader)
    assert str(caught.value) == "sweeps/2.bin: truncated: fetch this file again"


def test_batches_without_any_camera_get_the_stated_size() -> None:
    blind = SensorDropout(p_no_cameras=1.0)
    loader = loader_of(augmentations=(blind,), image_size=ImageSize(64, 176))
    batch, labels = next(iter(loader))
    assert not batch.camera_mask.any()
    assert batch.images.shape[-2:] == (64, 176)
    assert labels is not None


def test_frameworks_recognise_the_sampler_as_already_distributed() -> None:
    assert isinstance(loader_of().sampler, DistributedSampler)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size=0"):
        loader_of(batch_size=0)
    with pytest.raises(ValueError, match="batches_done=9"):
        loader_of().set_position(0, 9)
    with pytest.raises(ValueError, match="frame_classes has 1"):
        loader_of(frame_classes=[[0]])

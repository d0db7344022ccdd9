"""Batches and labels move as a whole, and arrays of different lengths do not pass the shape check."""

from dataclasses import fields, replace

import pytest
import torch
from fixtures.scenes import one_car_ahead, pedestrian_left
from jaxtyping import TypeCheckError

from bevstack.data.collate import collate
from bevstack.types import Batch, Labels


@pytest.fixture
def pair() -> tuple[Batch, Labels]:
    batch, labels = collate([one_car_ahead(), pedestrian_left()])
    assert labels is not None
    return batch, labels


def test_moving_a_batch_moves_every_tensor_and_keeps_the_words(pair: tuple[Batch, Labels]) -> None:
    for item in pair:
        moved = item.to("meta")
        for field in fields(item):
            value, before = getattr(moved, field.name), getattr(item, field.name)
            if isinstance(value, torch.Tensor):
                assert value.is_meta and not before.is_meta, field.name
            elif value is None:
                assert before is None
            elif value and isinstance(value[0], torch.Tensor):
                assert all(part.is_meta for part in value), field.name
            else:
                assert value == before


def test_the_history_of_a_batch_moves_with_it(pair: tuple[Batch, Labels]) -> None:
    moved = replace(pair[0], history=(pair[0], pair[0])).to("meta")
    assert len(moved.history) == 2
    assert all(past.images.is_meta and past.tokens == pair[0].tokens for past in moved.history)


def test_moving_to_the_same_place_changes_nothing(pair: tuple[Batch, Labels]) -> None:
    batch, labels = pair
    assert torch.equal(batch.to("cpu").images, batch.images)
    assert torch.equal(labels.to("cpu").boxes_ego[1], labels.boxes_ego[1])


def test_positions_on_the_map_keep_double_precision(pair: tuple[Batch, Labels]) -> None:
    assert pair[0].T_global_ego.dtype == torch.float64
    assert pair[0].batch_size == 2


def test_labels_without_frames_can_be_moved(pair: tuple[Batch, Labels]) -> None:
    none = Labels(boxes_ego=(), class_index=(), attribute_index=(), num_points=())
    assert none.to("meta") == none


def test_a_camera_too_few_in_one_tensor_is_caught_under_test(pair: tuple[Batch, Labels]) -> None:
    with pytest.raises(TypeCheckError):
        replace(pair[0], K_cam=pair[0].K_cam[:, :5])


@pytest.mark.gpu
def test_pinned_batches_are_page_locked_and_equal(pair: tuple[Batch, Labels]) -> None:
    batch, labels = pair[0].pin_memory(), pair[1].pin_memory()
    assert batch.images.is_pinned() and labels.boxes_ego[0].is_pinned()
    assert torch.equal(batch.images, pair[0].images)

"""Boxes3D: columns by name and what does not fit together."""

import numpy as np
import pytest

from bevstack.types import Boxes3D, BoxIndex

ROWS = np.array([[10, 3, 1, 4.5, 1.9, 1.6, 0.3, 5, 1], [-4, 0, 0.9, 0.7, 0.6, 1.8, 0, np.nan, np.nan]], np.float32)
BOXES = Boxes3D(rows=ROWS, class_index=np.array([0, 5]))


def test_columns_are_found_by_name() -> None:
    np.testing.assert_array_equal(BOXES.centers, ROWS[:, :3])
    np.testing.assert_array_equal(BOXES.sizes, ROWS[:, 3:6])
    np.testing.assert_array_equal(BOXES.yaws, ROWS[:, 6])
    np.testing.assert_array_equal(BOXES.velocities, ROWS[:, 7:])
    assert BOXES.sizes[0].tolist() == [ROWS[0, BoxIndex.LENGTH], ROWS[0, BoxIndex.WIDTH], ROWS[0, BoxIndex.HEIGHT]]
    assert len(BOXES) == 2


def test_no_boxes_have_the_columns_of_boxes() -> None:
    none = Boxes3D.empty()
    assert len(none) == 0
    assert none.centers.shape == (0, 3)
    assert none.velocities.shape == (0, 2)


@pytest.mark.parametrize(("columns", "classes"), [(7, 2), (9, 3)])
def test_a_wrong_number_of_columns_or_classes_is_refused(columns: int, classes: int) -> None:
    with pytest.raises((ValueError, TypeError)):
        Boxes3D(rows=np.zeros((2, columns), np.float32), class_index=np.zeros(classes, np.int64))

"""Turned rectangles touch where their polygons do."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from shapely import affinity
from shapely.geometry import Polygon, box

from bevstack.geometry.rectangles import rectangles_touch

rows = st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.floats(0.3, 6), st.floats(0.3, 3), st.floats(-7, 7))


def polygon(row: tuple[float, float, float, float, float]) -> Polygon:
    x, y, length, width, yaw = row
    upright = box(-length / 2, -width / 2, length / 2, width / 2)
    return affinity.translate(affinity.rotate(upright, yaw, origin=(0, 0), use_radians=True), x, y)


@given(a=rows, b=rows)
def test_rectangles_touch_where_their_polygons_intersect_whichever_comes_first(a, b) -> None:
    first, second = polygon(a), polygon(b)
    found = rectangles_touch(np.array(a), np.array(b))
    assert found == rectangles_touch(np.array(b), np.array(a))
    if first.distance(second) > 1e-9 or first.intersection(second).area > 1e-9:  # not on the very edge
        assert found == first.intersects(second)

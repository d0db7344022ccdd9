"""Lines of the map around a vehicle: where they lie, what is joined and what is cut."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import shapely
from fixtures.map_writer import MapWriter
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, Polygon

from bevstack.data.map_lines import MAP_LINE_CLASSES, MapLines, map_lines
from bevstack.data.maps import VectorMap, read_vector_map
from bevstack.geometry.transforms import from_xy_yaw, transform_points

POSE = from_xy_yaw(200.0, 100.0, np.pi / 2)
"""The vehicle looks along global y: x of the map runs to its right."""


def lines_of(writer: MapWriter, root: Path, **options: tuple[float, float]) -> dict[str, list[np.ndarray]]:
    found = map_lines(read_vector_map(writer.write(root)), POSE, **options)
    return by_class(found)


def by_class(found: MapLines) -> dict[str, list[np.ndarray]]:
    return {
        name: [line for line, of_class in zip(found.lines, found.class_index, strict=True) if of_class == k]
        for k, name in enumerate(MAP_LINE_CLASSES)
    }


def test_a_divider_is_cut_off_at_the_patch_and_lies_where_the_vehicle_sees_it(tmp_path: Path) -> None:
    writer = MapWriter().add("lane_divider", LineString([(195, 0), (195, 400)]))
    writer.add("road_divider", LineString([(0, 110), (400, 110)]), LineString([(0, 140), (400, 140)]))
    across, along = sorted(lines_of(writer, tmp_path)["divider"], key=lambda line: np.ptp(line[:, 0]))
    np.testing.assert_allclose(np.sort(along[:, 0]), [-30, 30], atol=1e-9)
    np.testing.assert_allclose(along[:, 1], 5.0, atol=1e-9)  # 5 m to the left
    np.testing.assert_allclose(across[:, 0], 10.0, atol=1e-9)  # 10 m ahead; the one 40 m ahead is outside
    np.testing.assert_allclose(np.sort(across[:, 1]), [-15, 15], atol=1e-9)


def test_a_divider_that_leaves_the_patch_and_comes_back_is_two(tmp_path: Path) -> None:
    bow = LineString([(210, 90), (230, 90), (230, 110), (210, 110)])
    first, second = lines_of(MapWriter().add("road_divider", bow), tmp_path)["divider"]
    np.testing.assert_allclose(sorted((first[0, 0], second[0, 0])), [-10, 10], atol=1e-9)


def test_touching_crossings_are_one_closed_outline(tmp_path: Path) -> None:
    writer = MapWriter().add("ped_crossing", shapely.box(195, 105, 200, 108), shapely.box(200, 105, 206, 108))
    writer.add("ped_crossing", shapely.box(210, 95, 300, 98))  # reaches beyond the patch
    whole, cut = sorted(lines_of(writer, tmp_path)["ped_crossing"], key=lambda line: -line[:, 0].mean())
    for line in (whole, cut):
        np.testing.assert_allclose(line[0], line[-1])
    assert LineString(whole).length == pytest.approx(2 * (11 + 3))
    assert LineString(cut).length == pytest.approx(2 * (5 + 3)), "closed along the rim of the patch"


def test_boundaries_are_outlines_of_the_road_without_the_rim_of_the_patch(tmp_path: Path) -> None:
    writer = MapWriter().add("road_segment", shapely.box(190, 0, 205, 100))
    writer.add("lane", shapely.box(190, 100, 205, 400))
    writer.add("drivable_area", shapely.box(150, 0, 250, 400))  # not asked
    right, left = sorted(lines_of(writer, tmp_path)["boundary"], key=lambda line: line[0, 1])
    for line, y in ((right, -5.0), (left, 10.0)):
        np.testing.assert_allclose(line[:, 1], y, atol=1e-9)
        np.testing.assert_allclose(sorted((line[0, 0], line[-1, 0])), [-29.8, 29.8], atol=1e-9)


def test_an_island_in_the_road_is_a_boundary_of_its_own(tmp_path: Path) -> None:
    island = shapely.box(198, 98, 202, 102)
    road = Polygon(shapely.box(150, 50, 250, 150).exterior, [island.exterior.coords])
    (line,) = lines_of(MapWriter().add("road_segment", road), tmp_path)["boundary"]
    np.testing.assert_allclose(line[0], line[-1])
    assert LineString(line).length == pytest.approx(16.0)


def test_far_from_everything_there_is_no_line_and_the_patch_may_have_another_size(tmp_path: Path) -> None:
    writer = MapWriter().add("lane_divider", LineString([(180, 0), (180, 400)]))
    assert len(map_lines(read_vector_map(writer.write(tmp_path / "a")), POSE)) == 0
    (line,) = lines_of(writer, tmp_path / "b", patch_m=(100.0, 50.0))["divider"]
    np.testing.assert_allclose(np.sort(line[:, 0]), [-50, 50], atol=1e-9)
    with pytest.raises(ValueError, match="must be more than 0.4 m"):
        lines_of(writer, tmp_path / "c", patch_m=(0.4, 50.0))


@given(st.floats(0, 400), st.floats(0, 400), st.floats(-np.pi, np.pi))
def test_every_line_lies_in_the_patch_and_on_its_shape(x: float, y: float, yaw: float) -> None:
    pose = from_xy_yaw(x, y, yaw)
    found = by_class(map_lines(VECTOR_MAP, pose))
    outlines = shapely.union_all([shape.boundary for shape in VECTOR_MAP.shapes("lane")])
    dividers = shapely.union_all(VECTOR_MAP.shapes("road_divider"))
    for name, shapes in (("boundary", outlines), ("divider", dividers)):
        for line in found[name]:
            assert (np.abs(line) <= np.array((30.0, 15.0)) + 1e-6).all()
            placed = transform_points(pose, np.column_stack((line, np.zeros(len(line)))))
            assert shapely.distance(shapely.points(placed[:, :2]), shapes).max() < 1e-6


def _map_of_streets() -> VectorMap:
    writer = MapWriter()
    for offset in range(0, 400, 60):
        writer.add("lane", shapely.box(0, offset, 400, offset + 8), shapely.box(offset, 0, offset + 8, 400))
        wave = np.linspace(0, 400, 81)
        writer.add("road_divider", LineString(np.stack((wave, offset + 4 + np.sin(wave / 9)), axis=1)))
    with tempfile.TemporaryDirectory() as folder:
        return read_vector_map(writer.write(Path(folder)))


VECTOR_MAP = _map_of_streets()

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bevstack.geometry.voxel_rays import mark_beams, mark_pixels

LOW_M, VOXEL_M, SHAPE = np.array([-2.0, -2.0, 0.0]), 0.5, (8, 8, 4)
_COORDINATE = st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.floats(-2, 4))


def _beams(origin, ends):
    mask = np.zeros(SHAPE, np.uint8)
    mark_beams(np.array(origin, np.float64), np.array(ends, np.float64).reshape(-1, 3), LOW_M, VOXEL_M, mask)
    return mask


def test_a_beam_along_x_marks_its_row_up_to_its_end():
    mask = _beams((-1.75, 0.25, 0.75), [(0.25, 0.25, 0.75)])
    assert np.argwhere(mask).tolist() == [[x, 4, 1] for x in range(5)]


def test_a_beam_from_outside_enters_the_raster_and_leaves_it():
    mask = _beams((-9.0, 0.25, 0.75), [(9.0, 0.25, 0.75)])
    assert np.argwhere(mask).tolist() == [[x, 4, 1] for x in range(8)]


def test_beams_that_pass_by_or_have_no_length_mark_nothing():
    assert not _beams((-9.0, 5.0, 0.75), [(9.0, 5.0, 0.75)]).any()
    assert not _beams((0.1, 0.1, 0.1), [(0.1, 0.1, 0.1)]).any()
    assert not _beams((0.1, 0.1, 0.1), []).any()


@given(_COORDINATE, _COORDINATE)
def test_a_beam_marks_the_voxels_of_points_along_it(origin, end):
    mask = _beams(origin, [end])
    along = np.linspace(0, 1, 500)[:, None]
    cells = ((1 - along) * np.array(origin) + along * np.array(end) - LOW_M) / VOXEL_M
    inside = ((cells >= 0) & (cells < SHAPE)).all(axis=1)
    # A point within rounding of a border may belong to either side.
    clear = inside & (np.abs(cells - np.round(cells)) > 1e-5).all(axis=1)
    assert mask[tuple(np.floor(cells[clear]).astype(int).T)].all()
    assert mask.sum() <= len(np.unique(np.floor(cells[inside]).astype(int), axis=0)) + 6


def test_pixels_see_up_to_the_first_occupied_voxel():
    semantics = np.full(SHAPE, 17, np.uint8)
    semantics[5] = 3
    mask = np.zeros(SHAPE, np.uint8)
    # A camera of one pixel that looks along x: its only ray goes through the centre of the picture.
    ray_matrix = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]) @ np.diag([1e-9, 1e-9, 1.0])
    mark_pixels(np.array([-1.9, 0.25, 0.75]), ray_matrix, 1, 1, 1, LOW_M, VOXEL_M, semantics, 17, mask)
    assert np.argwhere(mask).tolist() == [[x, 4, 1] for x in range(6)]

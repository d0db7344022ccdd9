import numpy as np
import pytest
from fixtures.meshes import box, make_mesh
from fixtures.sensors import HEIGHT_PX, K_SMALL, WIDTH_PX, looking_along_x
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.geometry.transforms import rigid_inverse
from bevstack.sim.sensors.raster import rasterise, visible_chunks
from bevstack.sim.sensors.scene import SurfaceModel
from bevstack.sim.world.mesh import Mesh


def draw(mesh: Mesh, T_global_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    model = SurfaceModel(mesh)
    inverse_depth = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    face_index = np.full((HEIGHT_PX, WIDTH_PX), -1, np.int32)
    stamp = np.full((HEIGHT_PX, WIDTH_PX), -1, np.int32)
    silhouettes = rasterise(
        model.vertices, model.faces, model.vertex_start, model.face_start, np.zeros(1, np.int32),
        rigid_inverse(T_global_cam)[None], K_SMALL, 0, inverse_depth, face_index, stamp,
    )  # fmt: skip
    return inverse_depth, face_index, int(silhouettes[0])


def ray_depths(mesh: Mesh, T_global_cam: np.ndarray) -> np.ndarray:
    """Depth along the optical axis per pixel by intersecting each pixel's ray with the triangles."""
    v, u = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX]
    pixels = np.stack((u, v, np.ones_like(u)), -1).reshape(-1, 3)
    rays = (pixels @ np.linalg.inv(K_SMALL).T) @ T_global_cam[:3, :3].T
    origins = np.broadcast_to(T_global_cam[:3, 3], rays.shape).astype(np.float32)
    norms = np.linalg.norm(rays, axis=1)
    found = SurfaceModel(mesh).ray_scene.run(
        np.ascontiguousarray(origins), (rays / norms[:, None]).astype(np.float32), output=1
    )
    depth = np.where(found["primID"] >= 0, found["tfar"] / norms, np.inf)
    return depth.reshape(HEIGHT_PX, WIDTH_PX)


def random_boxes(seed: int, count: int = 12) -> Mesh:
    rng = np.random.default_rng(seed)
    return Mesh.joined(
        [
            box(size=rng.uniform(0.3, 4, 3), center=(rng.uniform(2, 30), rng.uniform(-8, 8), rng.uniform(-1, 2)))
            for _ in range(count)
        ]
    )


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_raster_depth_is_ray_cast_depth_away_from_edges(seed):
    mesh = random_boxes(seed)
    inverse_depth, _, _ = draw(mesh, looking_along_x())
    with np.errstate(divide="ignore"):
        drawn = 1.0 / inverse_depth
    cast = ray_depths(mesh, looking_along_x())
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(cast, 1, mode="edge"), (3, 3))
    finite = np.isfinite(windows).all(axis=(2, 3))
    inner = finite & (np.where(finite, np.ptp(np.where(np.isfinite(windows), windows, 0), axis=(2, 3)), 1) < 0.3)
    assert inner.sum() > 100
    assert np.abs(drawn[inner] - cast[inner]).max() < 0.01


def test_a_box_ten_metres_ahead_fills_the_pixels_that_projection_gives():
    _, face_index, silhouette = draw(box(size=(1, 2, 1), center=(10.5, 0, 1)), looking_along_x(1.5))
    rows, columns = np.nonzero(face_index >= 0)
    # Front face at 10 m: 2 m wide and 1 m high about the optical axis; 15 px per metre.
    assert columns.min() == 85 and columns.max() == 114
    assert rows.min() == 52 and rows.max() == 67
    assert silhouette == len(rows)


def test_the_nearer_of_two_boxes_is_seen_whatever_the_order():
    near, far = box(size=(1, 2, 2), center=(8, 0, 0.5)), box(size=(1, 6, 4), center=(15, 0, 0))
    first, _, _ = draw(Mesh.joined([near, far]), looking_along_x())
    second, _, _ = draw(Mesh.joined([far, near]), looking_along_x())
    np.testing.assert_array_equal(first, second)
    assert first[60, 100] == pytest.approx(1 / 7.5, rel=1e-5)


def test_a_sheet_that_passes_under_the_camera_is_cut_at_the_near_plane():
    sheet = make_mesh([[-50, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0]], [[0, 1, 2], [0, 2, 3]])
    inverse_depth, _, _ = draw(sheet, looking_along_x(1.5))
    depth_bottom = 1.0 / inverse_depth[-1, 100]
    assert depth_bottom == pytest.approx(1.5 * 150 / (HEIGHT_PX - 1 - 59.5), rel=1e-5)
    assert (inverse_depth[65:] > 0).all() and (inverse_depth[:59] == 0).all()


def test_two_triangles_of_a_sheet_leave_no_crack():
    rng = np.random.default_rng(3)
    for _ in range(20):
        x, (a, b) = rng.uniform(3, 20), rng.uniform(-0.2, 0.2, 2)
        sheet = make_mesh([[x + a, 40, -40], [x + b, -40, -40], [x + a, -40, 40], [x, 40, 40]], [[0, 1, 2], [0, 2, 3]])
        assert (draw(sheet, looking_along_x())[1] >= 0).all()


def test_faces_seen_from_behind_are_not_drawn():
    facing = make_mesh([[5, 1, 0], [5, -1, 0], [5, 0, 3]], [[0, 1, 2]])
    away = make_mesh([[5, 1, 0], [5, -1, 0], [5, 0, 3]], [[0, 2, 1]])
    assert (draw(facing, looking_along_x())[1] >= 0).any()
    assert (draw(away, looking_along_x())[1] < 0).all()


def test_a_mesh_behind_the_camera_is_not_drawn():
    assert (draw(box(size=(2, 2, 2), center=(-6, 0, 0)), looking_along_x())[1] < 0).all()


def test_chunks_outside_the_frustum_are_left_out():
    T_cam_global = rigid_inverse(looking_along_x())[None]
    spheres = np.array([[10.0, 0, 1, 1], [-10, 0, 1, 1], [10, 30, 1, 1], [10, 7.5, 1, 2], [300, 0, 1, 1]])
    kept = visible_chunks(spheres, T_cam_global, K_SMALL, HEIGHT_PX, WIDTH_PX, 200.0)
    assert kept.tolist() == [0, 3]

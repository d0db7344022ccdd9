"""Reading pictures: the pixel map, both ways of resampling, damaged files."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bevstack.data.images import ImageSize, ResizeCrop, read_image
from bevstack.types.errors import DatasetError

NUSCENES = ImageSize(900, 1600)
SMALL = ImageSize(256, 704)


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs of colour with edges: JPEG keeps it, every row and column differs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (max(2, height // 12), max(2, width // 12), 3), dtype=np.uint8)
    rgb = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    rgb[height // 2 :: 16] = 255 - rgb[height // 2 :: 16]
    return rgb


def saved(path: Path, rgb: np.ndarray, **options: object) -> Path:
    Image.fromarray(rgb).save(path, "JPEG", **({"quality": 92} | options))
    return path


def by_pillow(path: Path, size: ImageSize) -> np.ndarray:
    with Image.open(path) as picture:
        resized_height = round(picture.height * size.width / picture.width)
        resized = picture.convert("RGB").resize((size.width, resized_height), Image.Resampling.BICUBIC)
    return np.asarray(resized)[resized_height - size.height :]


@pytest.mark.parametrize(
    ("source", "size"),
    [
        (NUSCENES, SMALL),
        (NUSCENES, ImageSize(396, 704)),  # nothing to crop
        (NUSCENES, ImageSize(128, 352)),
        (NUSCENES, ImageSize(900, 1600)),
        (NUSCENES, ImageSize(500, 1600)),  # nothing to resize
        (NUSCENES, ImageSize(640, 1408)),
        (SMALL, SMALL),
        (ImageSize(237, 411), ImageSize(100, 300)),  # sizes without a common divisor
        (ImageSize(120, 160), ImageSize(150, 240)),  # larger than the file
    ],
)
def test_the_exact_mode_gives_the_bytes_of_pillow(tmp_path: Path, source: ImageSize, size: ImageSize) -> None:
    path = saved(tmp_path / "a.jpg", textured(*source.height_width))
    rgb, _ = read_image(path, size, "exact")
    np.testing.assert_array_equal(rgb, by_pillow(path, size))


@pytest.mark.nuscenes
def test_the_exact_mode_gives_the_bytes_of_pillow_on_real_pictures(nuscenes_real: Path) -> None:
    paths = sorted((nuscenes_real / "frames" / "scene-0061" / "samples").glob("CAM_*/*.jpg"))
    assert len(paths) == 6
    for path in paths:
        rgb, _ = read_image(path, SMALL, "exact")
        np.testing.assert_array_equal(rgb, by_pillow(path, SMALL))


@pytest.mark.nuscenes
def test_the_fast_mode_stays_within_one_grey_value_on_average_on_real_pictures(nuscenes_real: Path) -> None:
    for path in sorted((nuscenes_real / "frames" / "scene-0061" / "samples").glob("CAM_*/*.jpg")):
        fast, A_fast = read_image(path, SMALL)
        exact, A_exact = read_image(path, SMALL, "exact")
        assert np.abs(fast.astype(int) - exact).mean() < 1.0
        np.testing.assert_array_equal(A_fast, A_exact)


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("size", [SMALL, ImageSize(128, 352), ImageSize(200, 731), ImageSize(500, 1600)])
def test_a_spot_in_the_file_is_found_where_the_pixel_map_says(tmp_path: Path, mode: str, size: ImageSize) -> None:
    rgb = np.zeros((900, 1600, 3), np.uint8)
    spots = [(1200.0, 700.0), (430.0, 850.0), (1585.0, 885.0), (20.0, 640.0)]
    for u, v in spots:
        cv2.circle(rgb, (int(u), int(v)), 10, (255, 255, 255), -1)
    path = saved(tmp_path / "spots.jpg", rgb)
    small, A_img = read_image(path, size, mode)
    weight = small.astype(float).mean(axis=-1)
    weight[weight < 20] = 0
    for u, v in spots:
        expected = (A_img @ (u, v, 1.0))[:2]
        reach = int(np.ceil(16 * A_img[0, 0]))
        column, row = np.round(expected).astype(int)
        rows = slice(max(0, row - reach), row + reach + 1)
        columns = slice(max(0, column - reach), column + reach + 1)
        patch = weight[rows, columns]
        found_v = (patch.sum(axis=1) * np.arange(*rows.indices(len(weight)))).sum() / patch.sum()
        found_u = (patch.sum(axis=0) * np.arange(*columns.indices(weight.shape[1]))).sum() / patch.sum()
        np.testing.assert_allclose((found_u, found_v), expected, atol=0.08)


def test_the_pixel_map_of_nuscenes_to_704_by_256_is_the_known_one() -> None:
    A_img = ResizeCrop(NUSCENES, SMALL).A_img
    np.testing.assert_allclose(A_img, [[0.44, 0, -0.28], [0, 0.44, -140.28], [0, 0, 1]])
    np.testing.assert_allclose(A_img @ (1599.5, 899.5, 1), (703.5, 255.5, 1))  # the outer corner stays the corner


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 800), st.integers(0, 400))
def test_rows_are_cut_only_where_source_and_result_meet(height: int, width: int, new_width: int, crop: int) -> None:
    resized_height = max(1, round(height * new_width / width))
    plan = ResizeCrop(ImageSize(height, width), ImageSize(max(1, resized_height - crop), new_width))
    first_row, rows_above = plan.kept_rows(height)
    assert 0 <= rows_above <= plan.crop_top
    assert first_row * plan.resized_height == rows_above * height


def test_a_picture_too_low_for_the_crop_is_refused_with_the_possible_height(tmp_path: Path) -> None:
    path = saved(tmp_path / "low.jpg", textured(100, 400))
    with pytest.raises(ValueError, match="50 rows high"):
        read_image(path, ImageSize(64, 200))


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("kept", [0, 2, 200, 0.5, 0.9, -2])
def test_a_truncated_picture_is_an_error_and_never_grey_rows(tmp_path: Path, mode: str, kept: float) -> None:
    whole = saved(tmp_path / "whole.jpg", textured(225, 400)).read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(DatasetError, match=r"cut\.jpg: not a complete JPEG .* fetch this file again"):
        read_image(path, ImageSize(64, 176), mode)


def test_a_picture_with_a_damaged_middle_is_an_error(tmp_path: Path) -> None:
    data = bytearray(saved(tmp_path / "a.jpg", textured(225, 400)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1024] = bytes(range(256)) * 4  # markers that no encoder writes
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(DatasetError, match="not a complete JPEG"):
        read_image(tmp_path / "a.jpg", ImageSize(64, 176))


def test_a_file_of_another_kind_or_no_file_is_named(tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.fromarray(textured(64, 64)).save(buffer, "PNG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    with pytest.raises(DatasetError, match=r"a\.jpg: not a complete JPEG"):
        read_image(tmp_path / "a.jpg", ImageSize(32, 32))
    with pytest.raises(DatasetError, match=r"none\.jpg: No such file.* archive"):
        read_image(tmp_path / "none.jpg", ImageSize(32, 32))


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_grey_picture_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "grey.jpg", textured(90, 160)[..., 0])
    rgb, _ = read_image(path, ImageSize(45, 80), mode)
    assert rgb.shape == (45, 80, 3)
    np.testing.assert_array_equal(rgb[..., 0], rgb[..., 2])


@pytest.mark.parametrize(("height", "width"), [(0, 10), (10, -1), (2.5, 4)])
def test_a_size_that_is_no_size_is_refused(height: float, width: float) -> None:
    with pytest.raises((ValueError, TypeError)):
        ImageSize(height, width)

"""One frame as a picture: six cameras with boxes drawn into them, and the points and boxes from above, over the map
where there is one; occupancy labels make a second view from above.
"""

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import UInt8

from bevstack.data.bird_rasters import (
    MAP_COLOURS,
    BirdRaster,
    Colour,
    map_raster,
    occupancy_colours,
    occupancy_raster,
    paint_map,
    paint_occupancy,
)
from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.geometry.boxes import corners
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.types.boxes import Boxes3D
from bevstack.types.frame import CameraImage, Frame

CLASS_COLORS = (
    (255, 158, 0),
    (255, 99, 71),
    (255, 69, 220),
    (255, 140, 105),
    (233, 150, 70),
    (70, 130, 255),
    (255, 61, 99),
    (220, 20, 60),
    (47, 200, 79),
    (150, 170, 190),
)
"""RGB of each detection class, in their order; near those of the nuScenes devkit."""

CAMERA_LAYOUT = (("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"), ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"))
Ground = tuple[BirdRaster, np.ndarray]
"""What lies under the boxes, and its picture in RGB."""
_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
OCCUPANCY_COLOURS = occupancy_colours(dict(zip(DETECTION_CLASSES, CLASS_COLORS, strict=True)))
_FRONT_CROSS = ((0, 5), (1, 4))
"""Diagonals of the front face: they show which way an object looks."""
_NEAR_M = 0.1
_BACKGROUND = (18, 20, 24)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_frame(frame: Frame, range_m: float = 55.0, cell_width_px: int = 704) -> UInt8[np.ndarray, "H W 3"]:
    """The whole picture as RGB: cameras in two rows of three, and beneath them the scene from above with a legend; with
    occupancy labels, beneath that again what fills the highest voxels.
    """
    boxes = frame.annotations.boxes if frame.annotations is not None else Boxes3D.empty()
    by_name = {camera.name: camera for camera in frame.cameras}
    height_px = max((round(c.rgb.shape[0] * cell_width_px / c.rgb.shape[1]) for c in frame.cameras), default=0)
    rows = []
    for names in CAMERA_LAYOUT if frame.cameras else ():
        rows.append(np.hstack([_camera_cell(by_name.get(n), n, boxes, height_px, cell_width_px) for n in names]))
    width_px = 3 * cell_width_px
    bird = draw_bird_view(frame, boxes, range_m, size_px=width_px // 2, ground=_map_of(frame))
    panel = np.full((bird.shape[0], width_px - bird.shape[1], 3), _BACKGROUND, np.uint8)
    _write_legend(panel, frame, boxes)
    rows.append(np.hstack([bird, panel]))
    occupancy = _occupancy_of(frame)
    if occupancy is not None:
        bird = draw_bird_view(replace(frame, lidar=None), boxes, range_m, width_px // 2, ground=occupancy)
        panel = np.full_like(panel, _BACKGROUND)
        _write_colours(panel, 24, 70, "occupancy: class of the highest voxel", OCCUPANCY_COLOURS)
        rows.append(np.hstack([bird, panel]))
    return np.vstack(rows)


def draw_boxes_in_camera(camera: CameraImage, boxes: Boxes3D, line_px: int = 1) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with the boxes' edges and a cross on their front faces; parts behind the camera are cut off."""
    image = np.ascontiguousarray(camera.rgb).copy()
    if not len(boxes):
        return image
    T_cam_ego = rigid_inverse(camera.T_ego_cam)
    corners_cam = transform_points(T_cam_ego, corners(boxes.rows).reshape(-1, 3).astype(np.float64)).reshape(-1, 8, 3)
    order = np.argsort(-corners_cam[..., 2].mean(axis=1))  # far first, so that near boxes are drawn over them
    for row in order:
        color = CLASS_COLORS[int(boxes.class_index[row])]
        for start, end in (*_EDGES, *_FRONT_CROSS):
            _draw_edge(image, camera.K_cam, corners_cam[row, start], corners_cam[row, end], color, line_px)
    return image


def _draw_edge(
    image: np.ndarray, K_cam: np.ndarray, start: np.ndarray, end: np.ndarray, color: tuple[int, int, int], line_px: int
) -> None:
    if start[2] < _NEAR_M and end[2] < _NEAR_M:
        return
    if start[2] < _NEAR_M or end[2] < _NEAR_M:
        behind, ahead = (start, end) if start[2] < _NEAR_M else (end, start)
        share = (_NEAR_M - behind[2]) / (ahead[2] - behind[2])
        start, end = behind + share * (ahead - behind), ahead
    pixels: np.ndarray = project(K_cam, np.stack((start, end)))[0]
    limit = 4 * max(image.shape[:2])
    if np.abs(pixels).max() > limit:
        inside, first, last = cv2.clipLine(
            (-limit, -limit, 2 * limit, 2 * limit),
            tuple(int(v) for v in np.clip(pixels[0], -1e8, 1e8)),
            tuple(int(v) for v in np.clip(pixels[1], -1e8, 1e8)),
        )
        if not inside:
            return
        pixels = np.array((first, last), np.float64)
    points = np.round(pixels * 16).astype(np.int32)
    cv2.line(image, tuple(points[0].tolist()), tuple(points[1].tolist()), color, line_px, cv2.LINE_AA, shift=4)


def _camera_cell(camera: CameraImage | None, name: str, boxes: Boxes3D, height_px: int, width_px: int) -> np.ndarray:
    cell = np.full((height_px, width_px, 3), _BACKGROUND, np.uint8)
    if camera is not None:
        image = draw_boxes_in_camera(camera, boxes, line_px=max(1, round(camera.rgb.shape[1] / 700)))
        cell[:] = cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA)
    label = name if camera is not None else f"{name}: missing"
    cv2.putText(cell, label, (8, 20), _FONT, 0.55, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(cell, label, (8, 20), _FONT, 0.55, (255, 255, 255), 1, cv2.LINE_AA)
    return cell


def draw_bird_view(
    frame: Frame, boxes: Boxes3D, range_m: float, size_px: int, ground: "Ground | None" = None
) -> UInt8[np.ndarray, "S S 3"]:
    """Points, boxes with heading, and velocities over the next second; the vehicle looks up, its left is left.

    `ground` is painted under all of it.
    """
    image = np.full((size_px, size_px, 3), _BACKGROUND, np.uint8)
    scale = size_px / (2 * range_m)
    if ground is not None:
        _paint_ground(image, *ground, scale)

    def pixels(xy_m: np.ndarray) -> np.ndarray:
        return np.stack((size_px / 2 - xy_m[..., 1] * scale, size_px / 2 - xy_m[..., 0] * scale), axis=-1)

    for radius in range(10, int(range_m) + 1, 10):
        cv2.circle(image, (size_px // 2, size_px // 2), round(radius * scale), (45, 48, 54), 1, cv2.LINE_AA)
        cv2.putText(
            image, f"{radius} m", (size_px // 2 + 4, size_px // 2 - round(radius * scale) + 12), _FONT, 0.4, (90,) * 3
        )
    if frame.lidar is not None and len(frame.lidar.points_ego):
        _draw_points(image, frame.lidar.points_ego, pixels)
    rectangles = corners(boxes.rows)[:, :4, :2] if len(boxes) else np.zeros((0, 4, 2))
    for row, rectangle in enumerate(rectangles):
        color = CLASS_COLORS[int(boxes.class_index[row])]
        outline = np.round(pixels(rectangle) * 16).astype(np.int32)
        cv2.polylines(image, [outline], True, color, 2, cv2.LINE_AA, shift=4)
        center, nose = boxes.centers[row, :2], rectangle[:2].mean(axis=0)
        _line(image, pixels(center), pixels(nose), color)
        velocity = boxes.velocities[row]
        if np.isfinite(velocity).all() and np.hypot(*velocity) > 0.2:
            _line(image, pixels(center), pixels(center + velocity), (255, 255, 255))
    own = np.array([[3.4, 0.9], [3.4, -0.9], [-0.9, -0.9], [-0.9, 0.9]])  # outline from the rear-axle origin
    cv2.fillPoly(image, [np.round(pixels(own)).astype(np.int32)], (235, 235, 235))
    return image


def _map_of(frame: Frame) -> Ground | None:
    labels = None if frame.annotations is None else frame.annotations.map_masks
    if labels is None:
        return None
    raster = map_raster(labels.masks, labels.grid)
    return raster, paint_map(raster, _BACKGROUND)


def _occupancy_of(frame: Frame) -> Ground | None:
    labels = None if frame.annotations is None else frame.annotations.occupancy
    if labels is None:
        return None
    raster = occupancy_raster(labels.semantics, labels.grid)
    return raster, paint_occupancy(raster, OCCUPANCY_COLOURS, _BACKGROUND)


def _paint_ground(image: np.ndarray, raster: BirdRaster, picture: np.ndarray, scale: float) -> None:
    """Lay a picture over the area that it shows; `scale` is pixels for a metre."""
    rows, columns = picture.shape[:2]
    (x_low, x_high), (y_low, y_high) = raster.x_range_m, raster.y_range_m
    across, down = scale * (y_high - y_low) / columns, scale * (x_high - x_low) / rows
    left, top = image.shape[1] / 2 - y_high * scale, image.shape[0] / 2 - x_high * scale
    # The inverse map, of centres of pixels: cells stay sharp.
    to_cells = np.array([[1 / across, 0, (0.5 - left) / across - 0.5], [0, 1 / down, (0.5 - top) / down - 0.5]])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(picture, to_cells, image.shape[1::-1], image, flags, cv2.BORDER_TRANSPARENT)


def _draw_points(image: np.ndarray, points: np.ndarray, pixels) -> None:  # type: ignore[no-untyped-def]
    at = np.round(pixels(points[:, :2])).astype(int)
    inside = ((at >= 0) & (at < image.shape[0])).all(axis=1)
    height = np.clip((points[inside, 2] + 0.5) / 3.5, 0, 1)
    shade = cv2.applyColorMap((60 + 180 * height).astype(np.uint8)[:, None], cv2.COLORMAP_BONE)[:, 0, ::-1]
    image[at[inside, 1], at[inside, 0]] = shade


def _line(image: np.ndarray, start: np.ndarray, end: np.ndarray, color: tuple[int, int, int]) -> None:
    ends = [tuple(np.round(p * 16).astype(int).tolist()) for p in (start, end)]
    cv2.line(image, ends[0], ends[1], color, 1, cv2.LINE_AA, shift=4)


def _write_legend(panel: np.ndarray, frame: Frame, boxes: Boxes3D) -> None:
    lidar = frame.lidar
    lines = [
        f"{frame.scene_name}   {frame.location}",
        frame.token,
        frame.description,
        f"{len(lidar.points_ego)} points of {lidar.num_sweeps} sweeps" if lidar is not None else "no LiDAR",
        f"{frame.ego.speed_mps:.1f} m/s" if np.isfinite(frame.ego.speed_mps) else "speed unknown (first frame)",
        f"{len(boxes)} boxes" if frame.annotations is not None else "no annotations",
    ]
    y = 40
    for text in lines:
        cv2.putText(panel, text, (24, y), _FONT, 0.6, (225, 225, 225), 1, cv2.LINE_AA)
        y += 30
    y += 20
    for index, name in enumerate(DETECTION_CLASSES):
        count = int((boxes.class_index == index).sum())
        cv2.rectangle(panel, (24, y - 14), (44, y + 2), CLASS_COLORS[index], -1)
        shade = (225,) * 3 if count else (110,) * 3
        cv2.putText(panel, f"{name}  {count}", (56, y), _FONT, 0.6, shade, 1, cv2.LINE_AA)
        y += 30
    if frame.annotations is not None and frame.annotations.map_masks is not None:
        _write_colours(panel, 600, y - 30 * len(DETECTION_CLASSES), "map", MAP_COLOURS)
    note = ["Up is ahead, left is left. A line in a box points", "forward, a white line is one second of motion."]
    for text in note:
        cv2.putText(panel, text, (24, y + 20), _FONT, 0.5, (150,) * 3, 1, cv2.LINE_AA)
        y += 24


def _write_colours(panel: np.ndarray, x: int, y: int, title: str, colours: Mapping[str, Colour]) -> None:
    """A column of colours with their names."""
    x = min(x, panel.shape[1] // 2)
    cv2.putText(panel, title, (x, y - 26), _FONT, 0.6, (225,) * 3, 1, cv2.LINE_AA)
    for number, (name, colour) in enumerate(colours.items()):
        row = y + 30 * number
        cv2.rectangle(panel, (x, row - 14), (x + 20, row + 2), colour, -1)
        cv2.putText(panel, name, (x + 32, row), _FONT, 0.6, (225,) * 3, 1, cv2.LINE_AA)

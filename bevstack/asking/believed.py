"""What answers are made from: the perceived objects as things that one can speak of, and the vehicle's own part.

A `Belief` holds predictions. Ground truth comes in through `believe_annotations` alone, and a belief that was made of
it says so: every answer from it is marked as an upper bound of the answerer, not as a figure of the system.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES, NO_ATTRIBUTE
from bevstack.data.images import ImageSize, ResizeCrop
from bevstack.geometry.boxes import corners
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.types.boxes import BoxIndex
from bevstack.types.cue import Cue
from bevstack.types.frame import CameraImage, EgoState, Frame
from bevstack.types.scene import MapSegmentation, MotionForecasts, SceneEstimate
from bevstack.types.trajectory import Plan, Route

Source = Literal["predictions", "annotations"]
Rectangle = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels."""

MIN_SCORE = 0.3
MOVING_MPS = 0.5
"""From this speed on something moves; below, annotators of nuScenes call it stopped or standing."""

TRAFFIC_ELEMENTS = frozenset({"traffic_light", "traffic_sign"})
"""Only annotations of DriveLM have these: the stack does not perceive them."""

_MIN_DEPTH_M = 0.2
_MIN_SIDE_PX = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One perceived object, in `ego` at reference time."""

    number: int
    """Its place in the belief: what grounds call it."""
    name: str
    """Detection class."""
    row: Float[np.ndarray, "9"]
    """Columns as in `BoxIndex`."""
    score: float
    attribute: str = ""
    identity: int | None = None
    """Of its track, where there is one."""
    forecasts: Float[np.ndarray, "K T 2"] | None = None
    """Where it may be, most probable mode first."""
    forecast_probabilities: Float[np.ndarray, " K"] | None = None
    forecast_dt_s: float = 0.5
    views: Mapping[str, Rectangle] = field(default_factory=dict)
    """Camera -> where its box lies in that picture, in the pixels of the data set's own pictures."""
    said: str | None = None
    """What it looks like in the words of an annotator ("white truck"); None where only the pictures tell."""

    @property
    def xy(self) -> Float[np.ndarray, "2"]:
        """Centre seen from above."""
        return np.asarray(self.row[: BoxIndex.Z], np.float64)

    @property
    def distance_m(self) -> float:
        """From the rear axle to the centre of the box, along the ground."""
        return float(np.hypot(*self.xy))

    @property
    def bearing_deg(self) -> float:
        """0 ahead, 90 to the left, -180 to 180."""
        return float(np.degrees(np.arctan2(self.xy[1], self.xy[0])))

    @property
    def speed_mps(self) -> float:
        """Over ground; NaN where unknown."""
        return float(np.hypot(self.row[BoxIndex.VX], self.row[BoxIndex.VY]))

    @property
    def state(self) -> str:
        """moving, parked, stopped, standing, sitting, still (no more is known), or unknown."""
        said = self.attribute.rpartition(".")[2]
        if np.isfinite(self.speed_mps):
            if self.speed_mps >= MOVING_MPS:
                return "moving"
            return _STILL.get(said, "stopped" if said == "moving" else "still")
        return "moving" if said == "moving" else _STILL.get(said, "unknown")

    @property
    def has_rider(self) -> bool | None:
        """Of cycles; None where not known."""
        return {"cycle.with_rider": True, "cycle.without_rider": False}.get(self.attribute)


_STILL = {"parked": "parked", "stopped": "stopped", "standing": "standing", "sitting_lying_down": "sitting"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Everything that may be said of one instant."""

    token: str
    source: Source
    things: tuple[Thing, ...]
    """Nearest first."""
    objects_known: bool = True
    """False where no head finds objects: then no thing does not mean that there is none."""
    ego: EgoState | None = None
    route: Route | None = None
    plan: Plan | None = None
    map: MapSegmentation | None = None
    cue: Cue | None = None
    cameras: tuple[CameraImage, ...] = ()
    picture_size: ImageSize | None = None
    """Of the data set's own pictures, whose pixels `Thing.views` counts in."""

    @property
    def is_oracle(self) -> bool:
        """Whether it was made of ground truth."""
        return self.source == "annotations"


def believe(
    estimate: SceneEstimate,
    frame: Frame | None = None,
    *,
    min_score: float = MIN_SCORE,
    picture_size: ImageSize | None = None,
) -> Belief:
    """What a model believes. Annotations that the frame may carry are not looked at.

    Args:
        estimate: The predictions; tracks come before detections, where there are any.
        frame: Pictures, pose, route and cue of the same instant.
        min_score: Objects below it are not spoken of.
        picture_size: Of the pictures on disk; by default those of the frame are whole.

    Raises:
        ValueError: the frame is another one, or `min_score` is not within 0 to 1.
    """
    if frame is not None and frame.token != estimate.token:
        raise ValueError(f"the estimate is of frame {estimate.token}, the pictures are of {frame.token}")
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score={min_score} must be within 0 to 1")
    found = estimate.tracks if estimate.tracks is not None else estimate.detections
    forecasts = _forecasts(estimate)
    cameras = () if frame is None else frame.cameras
    things: list[Thing] = []
    if found is not None:
        rows = np.flatnonzero(found.scores >= min_score)
        identities = None if estimate.tracks is None else estimate.tracks.identity
        views = _views(found.boxes.rows[rows], cameras, picture_size)
        for row, seen in zip(rows.tolist(), views):
            modes, weights, dt_s = forecasts.get(row, (None, None, 0.5))
            things.append(
                Thing(
                    number=0,
                    name=DETECTION_CLASSES[found.boxes.class_index[row]],
                    row=found.boxes.rows[row],
                    score=float(found.scores[row]),
                    attribute=_attribute(int(found.attribute_index[row])),
                    identity=None if identities is None else int(identities[row]),
                    forecasts=modes,
                    forecast_probabilities=weights,
                    forecast_dt_s=dt_s,
                    views=seen,
                )
            )
    return Belief(
        token=estimate.token,
        source="predictions",
        things=numbered(things),
        objects_known=found is not None,
        ego=None if frame is None else frame.ego,
        route=None if frame is None else frame.route,
        plan=estimate.plan,
        map=estimate.map,
        cue=estimate.cue if estimate.cue is not None or frame is None else frame.cue,
        cameras=cameras,
        picture_size=_native_size(cameras, picture_size),
    )


def believe_annotations(
    frame: Frame, *, picture_size: ImageSize | None = None, min_points: int = 0
) -> Belief:  # fmt: skip
    """What a perfect perception would believe: an upper bound, and marked as one.

    Args:
        frame: With annotations.
        picture_size: Of the pictures on disk; by default those of the frame are whole.
        min_points: Objects with fewer LiDAR points are left out: what no sensor sees, nobody speaks of.

    Raises:
        ValueError: the frame has no annotations.
    """
    truth = frame.annotations
    if truth is None:
        raise ValueError(f"frame {frame.token} has no annotations: an oracle cannot be made of it")
    views = _views(truth.boxes.rows, frame.cameras, picture_size)
    things = [
        Thing(
            number=0,
            name=DETECTION_CLASSES[truth.boxes.class_index[row]],
            row=truth.boxes.rows[row],
            score=1.0,
            attribute=_attribute(int(truth.attribute_index[row])),
            views=views[row],
        )
        for row in range(len(truth.boxes))
        if truth.num_lidar_points[row] >= min_points
    ]
    return Belief(
        token=frame.token,
        source="annotations",
        things=numbered(things),
        ego=frame.ego,
        route=frame.route,
        cue=frame.cue,
        cameras=frame.cameras,
        picture_size=_native_size(frame.cameras, picture_size),
    )


def numbered(things: Sequence[Thing]) -> tuple[Thing, ...]:
    """Nearest first, numbered in that order."""
    ordered = sorted(things, key=lambda thing: thing.distance_m)
    return tuple(
        Thing(**{name: getattr(thing, name) for name in Thing.__slots__ if name != "number"}, number=number)
        for number, thing in enumerate(ordered)
    )


def rectangle_in(
    row: Float[np.ndarray, "9"], camera: CameraImage, picture_size: ImageSize | None = None
) -> Rectangle | None:
    """Where a box lies in the picture that a camera wrote to disk, cut at its edges; None where it does not.

    Args:
        row: The box in `ego`.
        camera: The camera; its picture may be a resized and cropped one.
        picture_size: Of the picture on disk; by default that of the camera's.
    """
    height, width = camera.rgb.shape[:2]
    native = picture_size or ImageSize(height, width)
    A_img = ResizeCrop(native, ImageSize(height, width)).A_img
    K_native = np.linalg.inv(A_img) @ np.asarray(camera.K_cam, np.float64)
    points_cam = transform_points(rigid_inverse(camera.T_ego_cam), corners(np.asarray(row, np.float64)[None])[0])
    in_front = points_cam[:, 2] > _MIN_DEPTH_M
    if not in_front.any():
        return None
    pixels, _ = project(K_native, points_cam[in_front])
    left, top = pixels.min(axis=0).clip(0, (native.width - 1, native.height - 1))
    right, bottom = pixels.max(axis=0).clip(0, (native.width - 1, native.height - 1))
    if right - left < _MIN_SIDE_PX or bottom - top < _MIN_SIDE_PX:
        return None
    return float(left), float(top), float(right), float(bottom)


def _views(
    rows: Float32[np.ndarray, "N 9"], cameras: Sequence[CameraImage], picture_size: ImageSize | None
) -> list[dict[str, Rectangle]]:
    found: list[dict[str, Rectangle]] = []
    for row in rows:
        seen = {camera.name: rectangle_in(row, camera, picture_size) for camera in cameras}
        found.append({name: rectangle for name, rectangle in seen.items() if rectangle is not None})
    return found


def _native_size(cameras: Sequence[CameraImage], picture_size: ImageSize | None) -> ImageSize | None:
    if picture_size is not None or not cameras:
        return picture_size
    height, width = cameras[0].rgb.shape[:2]
    return ImageSize(height, width)


def _attribute(index: int) -> str:
    return "" if index == NO_ATTRIBUTE else ATTRIBUTES[index]


def _forecasts(estimate: SceneEstimate) -> dict[int, tuple[np.ndarray, np.ndarray, float]]:
    """Row of the things that are spoken of -> its modes, most probable first."""
    motion: MotionForecasts | None = estimate.motion
    if motion is None:
        return {}
    pairs: list[tuple[int, int]] = [(row, row) for row in range(len(motion))]
    if estimate.tracks is not None:
        pairs = [(row, int(own)) for row, own in enumerate(estimate.tracks.detection_index) if own >= 0]
    found = {}
    for row, own in pairs:
        order = np.argsort(-motion.probabilities[own], kind="stable")
        found[row] = (motion.trajectories_ego[own][order], motion.probabilities[own][order], motion.dt_s)
    return found

"""What is known to be there: the facts that captions are held against, from annotations or from a model's estimate.

Facts from annotations are ground truth. A caption that is corrected by them carries ground truth into the input of the
model, which then looks better on that data than it is. They are therefore made for training splits only, and whoever
asks for another split gets an error. At run time, and on any split, the facts are what the model itself has found.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES, NO_ATTRIBUTE
from bevstack.data.maps import MAP_CLASSES
from bevstack.data.training_splits import check_training_split
from bevstack.geometry.boxes import corners
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import rigid_inverse, transform_points
from bevstack.perception.language.captioner import pictures_of
from bevstack.types.bev import BevGrid
from bevstack.types.boxes import Boxes3D, BoxIndex
from bevstack.types.frame import CameraImage, EgoState, Frame
from bevstack.types.scene import SceneEstimate

FRONT_BUMPER_M = 3.4
"""Ahead of the rear axle: distances ahead are measured from here."""
OWN_LANE_M = 1.8
"""Half width of the way that the vehicle takes up."""
CORRIDOR_M = 40.0
"""How far ahead the map is looked at."""
MAX_DISTANCE_M = 50.0
MIN_SCORE = 0.3
MIN_VISIBILITY = 2
"""Bin of nuScenes: at least two fifths of the object can be seen."""
MIN_MAP_PROBABILITY = 0.5
_NEAR_M = 0.5

Origin = Literal["annotations", "estimates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownObject:
    """One object around the vehicle."""

    name: str
    """Of `DETECTION_CLASSES`."""
    x_m: float
    """Centre, in `ego`: ahead."""
    y_m: float
    """To the left."""
    distance_m: float
    """From the middle of the front bumper to the nearest point of the footprint."""
    gap_m: float
    """Along x from the front bumper to the nearest corner; negative beside and behind the front."""
    half_width_m: float
    """Half of what the footprint takes up along y."""
    vx_mps: float
    """Over ground, along x of `ego`; 0 where unknown."""
    vy_mps: float
    attribute: str
    """Of `ATTRIBUTES`, "" where unknown."""

    @property
    def is_in_way(self) -> bool:
        """Whether it is ahead and overlaps the way of the vehicle, driven straight on."""
        return self.gap_m > 0 and abs(self.y_m) - self.half_width_m < OWN_LANE_M

    @property
    def side(self) -> Literal["left", "right", "middle"]:
        """Where its centre is: in the middle is what lies in the vehicle's own lane."""
        return "middle" if abs(self.y_m) <= OWN_LANE_M else "left" if self.y_m > 0 else "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFacts:
    """What is known of one frame."""

    objects: tuple[KnownObject, ...]
    """Nearest first."""
    crossing_ahead_m: float | None
    """From the front bumper to the first crossing in the straight way; None where there is none, or no map."""
    stop_line_ahead_m: float | None
    knows_map: bool
    """Whether crossings and stop lines could be looked for at all."""
    speed_mps: float
    """Of the vehicle; NaN where unknown."""
    origin: Origin


def facts_from_annotations(frame: Frame, *, split: str, cameras: tuple[str, ...] | None = None) -> SceneFacts:
    """Facts from ground truth, for refining captions of training frames.

    Args:
        frame: with annotations; map masks are used where it has them.
        split: that the frame is of.
        cameras: count only what these can see; None counts all objects within `MAX_DISTANCE_M`.

    Raises:
        ValueError: `split` is not a training split, or the frame has no annotations.
    """
    check_training_split(split)
    return annotated_facts(frame, cameras=cameras)


def annotated_facts(frame: Frame, *, cameras: tuple[str, ...] | None) -> SceneFacts:
    """Facts from ground truth of any frame: for an oracle, which must say so in its name.

    Raises:
        ValueError: the frame has no annotations.
    """
    annotations = frame.annotations
    if annotations is None:
        raise ValueError(f"frame {frame.token} has no annotations: refine with estimates, or not at all")
    keep = np.ones(len(annotations.boxes), bool)
    if cameras is not None:
        keep = seen_by(pictures_of(frame, cameras), annotations.boxes)
        keep &= (annotations.visibility >= MIN_VISIBILITY) | (annotations.visibility == 0)
    masks = annotations.map_masks
    return _facts(
        annotations.boxes,
        annotations.attribute_index,
        keep,
        None if masks is None else (masks.masks, masks.grid),
        frame.ego,
        "annotations",
    )


def facts_from_estimate(
    estimate: SceneEstimate, frame: Frame, *, cameras: tuple[str, ...] | None = None, min_score: float = MIN_SCORE
) -> SceneFacts:
    """Facts from what a model has found in the frame: fit for run time and for every split.

    Args:
        estimate: of this frame.
        frame: for its cameras and its speed; its annotations are not looked at.
        cameras: count only what these can see.
        min_score: of the detections that count.

    Raises:
        ValueError: the estimate is of another frame.
    """
    if estimate.token != frame.token:
        raise ValueError(f"the estimate is of frame {estimate.token}, not of {frame.token}")
    ego, detections = frame.ego, estimate.detections
    known_map = None
    if estimate.map is not None:
        known_map = (estimate.map.probabilities >= MIN_MAP_PROBABILITY, estimate.map.grid)
    if detections is None:
        return _facts(Boxes3D.empty(), np.zeros(0, np.int64), np.zeros(0, bool), known_map, ego, "estimates")
    keep = detections.scores >= min_score
    if cameras is not None:
        keep &= seen_by(pictures_of(frame, cameras), detections.boxes)
    return _facts(detections.boxes, detections.attribute_index, keep, known_map, ego, "estimates")


def seen_by(pictures: tuple[CameraImage, ...], boxes: Boxes3D) -> np.ndarray:
    """Which boxes (N,) have their centre in at least one picture."""
    seen = np.zeros(len(boxes), bool)
    for picture in pictures:
        centers_cam = transform_points(rigid_inverse(picture.T_ego_cam), boxes.centers.astype(np.float64))
        pixels, depth_m = project(picture.K_cam, centers_cam)
        height, width = picture.rgb.shape[:2]
        inside = (pixels > -0.5).all(axis=1) & (pixels < (width - 0.5, height - 0.5)).all(axis=1)
        seen |= inside & (depth_m > _NEAR_M)
    return seen


def _facts(
    boxes: Boxes3D,
    attribute_index: np.ndarray,
    keep: np.ndarray,
    known_map: tuple[np.ndarray, BevGrid] | None,
    ego: EgoState,
    origin: Origin,
) -> SceneFacts:
    distances = _front_distances(boxes.rows)
    near = [int(row) for row in np.argsort(distances) if keep[row] and distances[row] <= MAX_DISTANCE_M]
    objects = tuple(_object(boxes, attribute_index, distances, row) for row in near)
    return SceneFacts(
        objects=objects,
        crossing_ahead_m=_first_ahead(known_map, "ped_crossing"),
        stop_line_ahead_m=_first_ahead(known_map, "stop_line"),
        knows_map=known_map is not None,
        speed_mps=ego.speed_mps,
        origin=origin,
    )


def _object(boxes: Boxes3D, attribute_index: np.ndarray, distances: np.ndarray, row: int) -> KnownObject:
    box, footprint = boxes.rows[row], corners(boxes.rows[row : row + 1])[0, :4, :2]
    vx, vy = (float(v) if np.isfinite(v) else 0.0 for v in boxes.velocities[row])
    attribute = int(attribute_index[row])
    return KnownObject(
        name=DETECTION_CLASSES[int(boxes.class_index[row])],
        x_m=float(box[BoxIndex.X]),
        y_m=float(box[BoxIndex.Y]),
        distance_m=float(distances[row]),
        gap_m=float(footprint[:, 0].min()) - FRONT_BUMPER_M,
        half_width_m=float(np.ptp(footprint[:, 1])) / 2,
        vx_mps=vx,
        vy_mps=vy,
        attribute="" if attribute == NO_ATTRIBUTE else ATTRIBUTES[attribute],
    )


def _front_distances(rows: Float[np.ndarray, "N 9"]) -> Float[np.ndarray, " N"]:
    """From the middle of the front bumper to the nearest point of each footprint; 0 inside of it."""
    offset = np.array((FRONT_BUMPER_M, 0.0)) - rows[:, : BoxIndex.Z]
    c, s = np.cos(rows[:, BoxIndex.YAW]), np.sin(rows[:, BoxIndex.YAW])
    along, across = offset[:, 0] * c + offset[:, 1] * s, -offset[:, 0] * s + offset[:, 1] * c
    beyond = [
        np.maximum(np.abs(along) - rows[:, BoxIndex.LENGTH] / 2, 0.0),
        np.maximum(np.abs(across) - rows[:, BoxIndex.WIDTH] / 2, 0.0),
    ]
    return np.hypot(*beyond)


def _first_ahead(known_map: tuple[np.ndarray, BevGrid] | None, name: str) -> float | None:
    """Distance from the front bumper to the first cell of a map class in the straight way."""
    if known_map is None:
        return None
    masks, grid = known_map
    (x_low, _), (y_low, _) = grid.x_range_m, grid.y_range_m
    rows, columns = np.nonzero(masks[list(MAP_CLASSES).index(name)])
    ahead_m = x_low + (columns + 0.5) * grid.cell_m - FRONT_BUMPER_M
    aside_m = y_low + (rows + 0.5) * grid.cell_m
    in_way = (np.abs(aside_m) < OWN_LANE_M) & (ahead_m > 0) & (ahead_m < CORRIDOR_M)
    return float(ahead_m[in_way].min()) if in_way.any() else None

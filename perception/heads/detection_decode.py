"""From heat map and box numbers to detections: peaks, boxes, suppression, attributes.

Letters: K classes, T tasks, R box numbers, Y X cells, N candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from bevstack.data.class_names import ATTRIBUTES, ATTRIBUTES_OF_CLASS, DETECTION_CLASSES, NO_ATTRIBUTE
from bevstack.geometry.boxes import rotated_nms
from bevstack.perception.heads.box_numbers import BOX_CHANNELS
from bevstack.types.bev import BevGrid
from bevstack.types.boxes import BOX_COLUMNS, Boxes3D, BoxIndex
from bevstack.types.scene import Detections

AttributeRule = Literal["learned", "speed"]

NMS_RADIUS_M = {"pedestrian": 0.35, "traffic_cone": 0.35, "bicycle": 0.85, "motorcycle": 0.85, "barrier": 1.0}
"""Small or thin things whose rectangles hardly overlap although they are the same thing."""

_MOVING_MPS = 0.3
_ATTRIBUTES_BY_SPEED = {  # class -> (moving, standing)
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), ("vehicle.moving", "vehicle.parked")),
    **dict.fromkeys(("motorcycle", "bicycle"), ("cycle.with_rider", "cycle.without_rider")),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
}
_MAX_LOG_SIZE = 4.0  # 55 m: an untrained network must not overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """What is kept of the peaks; see `CenterHead`."""

    attributes: AttributeRule
    score_threshold: float
    max_detections: int
    nms_iou: float
    nms_radius_m: Mapping[str, float]

    @classmethod
    def make(
        cls,
        *,
        attributes: AttributeRule,
        score_threshold: float,
        max_detections: int,
        nms_iou: float,
        nms_radius_m: Mapping[str, float] | None,
    ) -> "DecodeSettings":
        """Checked settings; `nms_radius_m` None means `NMS_RADIUS_M`.

        Raises:
            ValueError: a value outside its range or an unknown class.
        """
        radius_m = dict(NMS_RADIUS_M if nms_radius_m is None else nms_radius_m)
        unknown = sorted(set(radius_m) - set(DETECTION_CLASSES))
        if unknown:
            raise ValueError(f"nms_radius_m names {unknown}; classes are {DETECTION_CLASSES}")
        if attributes not in get_args(AttributeRule):
            raise ValueError(f"attributes={attributes!r} must be one of {get_args(AttributeRule)}")
        if not 0 <= score_threshold < 1 or max_detections < 1 or not 0 <= nms_iou <= 1:
            raise ValueError(
                f"score_threshold={score_threshold} must lie in [0, 1), nms_iou={nms_iou} in [0, 1], "
                f"max_detections={max_detections} be positive"
            )
        return cls(
            attributes=attributes,
            score_threshold=score_threshold,
            max_detections=max_detections,
            nms_iou=nms_iou,
            nms_radius_m=radius_m,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What may become the detections of one frame."""

    scores: Float[Tensor, " N"]
    class_index: Int[Tensor, " N"]
    cell: Int[Tensor, " N"]
    """Flat cell (row, column) in which each was found."""
    rows: Float[Tensor, "N 9"]
    """Boxes in `ego`."""
    attribute_logits: Float[Tensor, "N A"]


def frame_candidates(
    heatmap: Float[Tensor, "K Y X"],
    numbers: Float[Tensor, "T R Y X"],
    grid: BevGrid,
    task_of_class: Int[Tensor, " K"],
    settings: DecodeSettings,
) -> Candidates:
    """The best peaks of one frame with their boxes; `heatmap` holds probabilities."""
    scores, class_index, cell = peaks(heatmap, count=2 * settings.max_detections, threshold=settings.score_threshold)
    values = numbers.flatten(-2)[task_of_class[class_index], :, cell]  # (N, R)
    rows, attribute_logits = box_rows(values, cell, grid)
    return Candidates(scores=scores, class_index=class_index, cell=cell, rows=rows, attribute_logits=attribute_logits)


@torch.no_grad()
def kept_rows(candidates: Candidates, settings: DecodeSettings) -> Int[np.ndarray, " M"]:
    """Which candidates are detections, best score first: above the threshold and not suppressed by a better one."""
    scores, class_index = candidates.scores.cpu().numpy(), candidates.class_index.cpu().numpy()
    above = np.flatnonzero(scores > settings.score_threshold)
    rows = candidates.rows.cpu().numpy().astype(np.float32)[above]
    return above[suppress(rows, scores[above], class_index[above], settings)[: settings.max_detections]]


@torch.no_grad()
def kept_detections(candidates: Candidates, settings: DecodeSettings) -> Detections:
    """The candidates of `kept_rows`, with attributes."""
    kept = kept_rows(candidates, settings)
    boxes = Boxes3D(
        rows=candidates.rows.cpu().numpy().astype(np.float32)[kept],
        class_index=candidates.class_index.cpu().numpy().astype(np.int64)[kept],
    )
    return Detections(
        boxes=boxes,
        scores=candidates.scores.cpu().numpy().astype(np.float32)[kept],
        attribute_index=choose_attributes(boxes, candidates.attribute_logits.cpu().numpy()[kept], settings.attributes),
    )


def peaks(
    heatmap: Float[Tensor, "K Y X"], *, count: int, threshold: float
) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Scores, classes and flat cells of the best local maxima (3x3), best first."""
    flat = torch.where(is_peak(heatmap) & (heatmap > threshold), heatmap, -1.0).flatten()
    scores, index = flat.topk(min(count, len(flat)))
    found = scores >= 0
    scores, index = scores[found], index[found]
    cells = heatmap.shape[1] * heatmap.shape[2]
    return scores, index // cells, index % cells


def is_peak(heatmap: Float[Tensor, "*B K Y X"]) -> Bool[Tensor, "*B K Y X"]:
    """Whether no neighbour (3x3) of the same class is larger."""
    return heatmap >= F.max_pool2d(heatmap, 3, stride=1, padding=1)


def box_rows(
    values: Float[Tensor, "N R"], cell: Int[Tensor, " N"], grid: BevGrid
) -> tuple[Float[Tensor, "N 9"], Float[Tensor, "N A"]]:
    """Box numbers (as in `BOX_CHANNELS`) to boxes; also the attribute logits."""
    offset, height, log_size, heading, velocity, attribute = values.split(tuple(BOX_CHANNELS.values()), dim=1)
    columns = grid.shape_yx[1]
    centre_cells = torch.stack((cell % columns, cell // columns), dim=1) + 0.5 + offset
    rows = values.new_empty((len(values), BOX_COLUMNS))
    rows[:, : BoxIndex.Z] = grid.to_metres(centre_cells)
    rows[:, BoxIndex.Z] = height[:, 0]
    rows[:, BoxIndex.LENGTH : BoxIndex.YAW] = log_size.clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp()
    yaw = torch.atan2(heading[:, 0], heading[:, 1])
    rows[:, BoxIndex.YAW] = torch.where(yaw >= torch.pi, -torch.pi, yaw)
    rows[:, BoxIndex.VX :] = velocity
    return rows, attribute


def suppress(
    rows: Float[np.ndarray, "N 9"], scores: Float[np.ndarray, " N"], class_index: np.ndarray, settings: DecodeSettings
) -> np.ndarray:
    """Indices of the boxes that are kept, best score first; boxes of different classes do not suppress each other."""
    kept = []
    for index, name in enumerate(DETECTION_CLASSES):
        own = np.nonzero(class_index == index)[0]
        if len(own) > 1:
            radius_m = settings.nms_radius_m.get(name)
            chosen = (
                rotated_nms(rows[own], scores[own], settings.nms_iou)
                if radius_m is None
                else distance_nms(rows[own], scores[own], radius_m)
            )
            own = own[chosen]
        kept.append(own)
    joined = np.concatenate(kept)
    return joined[np.argsort(-scores[joined], kind="stable")]


def distance_nms(rows: Float[np.ndarray, "N 9"], scores: Float[np.ndarray, " N"], radius_m: float) -> np.ndarray:
    """Indices of boxes with no better kept box whose centre is nearer than `radius_m` on the ground, best first."""
    order = np.argsort(-scores, kind="stable")
    xy = rows[order, : BoxIndex.Z]
    is_near = np.square(xy[:, None] - xy[None]).sum(-1) < radius_m**2
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~is_near[i, i + 1 :]
    return order[alive]


def choose_attributes(boxes: Boxes3D, logits: Float[np.ndarray, "N A"], rule: AttributeRule) -> np.ndarray:
    """Attribute index of each box among those that its class can have; -1 for classes without attributes."""
    if rule == "learned":
        choice = np.where(_ALLOWED[boxes.class_index], logits, -np.inf).argmax(axis=1)
    else:
        is_moving = np.hypot(*boxes.velocities.T) > _MOVING_MPS
        choice = _BY_SPEED[boxes.class_index, np.where(is_moving, 0, 1)]
    return np.where(_ALLOWED[boxes.class_index].any(axis=1), choice, NO_ATTRIBUTE).astype(np.int64)


_ALLOWED = np.array([[name in ATTRIBUTES_OF_CLASS[cls] for name in ATTRIBUTES] for cls in DETECTION_CLASSES])
_BY_SPEED = np.array(
    [
        [ATTRIBUTES.index(name) for name in _ATTRIBUTES_BY_SPEED[cls]] if cls in _ATTRIBUTES_BY_SPEED else [-1, -1]
        for cls in DETECTION_CLASSES
    ]
)

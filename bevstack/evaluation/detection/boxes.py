"""Which boxes take part in a detection score: annotated and predicted ones, and the protocol's three filters.

Range: the centre must be closer to the vehicle (pose of the LiDAR key frame, on the ground) than the limit of its
class. Points: an annotated box without a LiDAR or radar point is not counted. Racks: bicycles and motorcycles whose
centre lies in an annotated bicycle rack are not counted, on both sides.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from bevstack.data.class_names import ATTRIBUTES, CLASS_OF_CATEGORY, DETECTION_CLASSES, LIDAR_NAME, NO_ATTRIBUTE
from bevstack.data.index import DatasetIndex
from bevstack.data.tables import TokenLookup, token_keys
from bevstack.evaluation.detection.devkit_arithmetic import rotation_matrices
from bevstack.evaluation.detection.rules import CLASS_RANGE_M, RACK_CATEGORY, RACK_CLASSES
from bevstack.evaluation.predictions.box_columns import GROUND_TRUTH_SCORE, BoxColumns
from bevstack.types.errors import DatasetError

_LOG = logging.getLogger(__name__)

_RANGE_M = np.array([CLASS_RANGE_M[name] for name in DETECTION_CLASSES])
_MARGIN_M = 1e-6
"""How close to a face of a rack a centre is tested with the devkit's own rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionTruth:
    """What is annotated in S samples, in the global frame."""

    boxes: BoxColumns
    """All annotated boxes of detection classes, whether they count or not."""
    num_points: Int64[np.ndarray, " N"]
    """LiDAR and radar points in each box."""
    ego_xy: Float64[np.ndarray, "S 2"]
    """Place of the vehicle."""
    racks: BoxColumns
    """Bicycle racks of the same samples; their class has no meaning."""

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """The samples."""
        return self.boxes.sample_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBoxes:
    """The boxes behind a score, and which of them count."""

    truth: DetectionTruth
    truth_counts: Bool[np.ndarray, " N"]
    predictions: BoxColumns
    """In the order that decides between equal scores."""
    prediction_sample: Int32[np.ndarray, " P"]
    """Sample of each prediction in the order of the truth."""
    prediction_counts: Bool[np.ndarray, " P"]

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """The samples, in the order of the truth."""
        return self.truth.sample_tokens

    @classmethod
    def of(cls, predictions: BoxColumns, truth: DetectionTruth) -> "ScoredBoxes":
        """Apply the filters. Predictions of other samples are left out, and their number is logged.

        Raises:
            ValueError: the predictions lack a sample; one without objects needs an empty list.
        """
        predictions, samples = _aligned(predictions, truth.sample_tokens)
        is_lit = truth.num_points != 0
        return cls(
            truth=truth,
            truth_counts=_counted(truth.boxes, truth.boxes.sample_index, truth, is_lit),
            predictions=predictions,
            prediction_sample=samples,
            prediction_counts=_counted(predictions, samples, truth),
        )


def read_truth(index: DatasetIndex, sample_tokens: Sequence[str]) -> DetectionTruth:
    """Annotations of some samples of a data set, without parsing a table.

    Raises:
        DatasetError: a sample does not exist or has no LiDAR key frame, which defines the vehicle's place.
    """
    tokens = tuple(sample_tokens)
    rows = TokenLookup(np.asarray(index["sample_token_key"])).rows(token_keys(tokens))
    if (rows < 0).any():
        index.sample_row(tokens[int(np.argmin(rows))])  # raises
    key_rows = index["sample_key_data"][rows, index.channel_index(LIDAR_NAME)].astype(np.int64)
    if (key_rows < 0).any():
        lost = tokens[int(np.argmin(key_rows))]
        raise DatasetError(f"sample {lost} in {index.folder} has no {LIDAR_NAME} key frame")
    ego_xy = np.array(index["data_pose"][key_rows, :2])
    if not index.num_annotations:
        nothing = BoxColumns.empty(tokens)
        return DetectionTruth(boxes=nothing, num_points=np.zeros(0, np.int64), ego_xy=ego_xy, racks=nothing)
    first, last = index["sample_annotation_first"][rows], index["sample_annotation_first"][rows + 1]
    counts = (last - first).astype(np.int64)
    samples = np.repeat(np.arange(len(tokens), dtype=np.int32), counts)
    annotations = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(len(samples))
    classes, is_rack = _classes(index, annotations)
    is_box = classes >= 0
    points = index["annotation_num_lidar_points"][annotations].astype(np.int64)
    points = points + index["annotation_num_radar_points"][annotations]
    return DetectionTruth(
        boxes=_boxes(index, tokens, annotations[is_box], samples[is_box], classes[is_box]),
        num_points=points[is_box],
        ego_xy=ego_xy,
        racks=_boxes(index, tokens, annotations[is_rack], samples[is_rack], classes[is_rack]),
    )


def _classes(index: DatasetIndex, annotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detection class of each annotation (-1 for none) and whether it is a bicycle rack."""
    names = (CLASS_OF_CATEGORY.get(category) for category in index.categories)
    class_of = [-1 if name is None else DETECTION_CLASSES.index(name) for name in names]
    categories = index["instance_category"][index["annotation_instance"][annotations]]
    is_rack = np.array([category == RACK_CATEGORY for category in index.categories], bool)
    return np.array(class_of, np.int8)[categories], is_rack[categories]


def _boxes(
    index: DatasetIndex, tokens: tuple[str, ...], annotations: np.ndarray, samples: np.ndarray, classes: np.ndarray
) -> BoxColumns:
    known = [ATTRIBUTES.index(name) if name in ATTRIBUTES else NO_ATTRIBUTE for name in index.attributes]
    attributes = np.array([*known, NO_ATTRIBUTE], np.int8)  # the last one answers for row -1
    return BoxColumns(
        sample_tokens=tokens,
        sample_index=samples,
        translation=index["annotation_translation"][annotations],
        size_wlh=index["annotation_size_wlh"][annotations],
        rotation_wxyz=index["annotation_rotation"][annotations],
        velocity=index["annotation_velocity"][annotations, :2].astype(np.float64),
        class_index=classes,
        score=np.full(len(annotations), GROUND_TRUTH_SCORE),
        attribute_index=attributes[index["annotation_attribute"][annotations]],
    )


def _aligned(predictions: BoxColumns, tokens: tuple[str, ...]) -> tuple[BoxColumns, np.ndarray]:
    """The predictions of some samples, their order kept, and the place of each one's sample in `tokens`."""
    if predictions.sample_tokens == tokens:
        return predictions, predictions.sample_index
    place = {token: index for index, token in enumerate(tokens)}
    known = np.array([place.get(token, -1) for token in predictions.sample_tokens], np.int32)
    if len(set(known.tolist()) - {-1}) < len(tokens):
        predictions.select(tokens)  # names the first that is missing
    if unused := int((known < 0).sum()):
        _LOG.warning("%d samples of the predictions are not in the split and are left out", unused)
    samples = known[predictions.sample_index]
    if unused:
        predictions, samples = predictions.take(samples >= 0), samples[samples >= 0]
    return predictions, samples


def _counted(
    boxes: BoxColumns, samples: np.ndarray, truth: DetectionTruth, is_lit: np.ndarray | None = None
) -> np.ndarray:
    offsets = boxes.translation[:, :2] - truth.ego_xy[samples]
    distance = np.sqrt(offsets[:, 0] * offsets[:, 0] + offsets[:, 1] * offsets[:, 1])
    counts = distance < _RANGE_M[boxes.class_index]
    if is_lit is not None:
        counts &= is_lit
    _leave_out_racks(counts, boxes, samples, truth.racks)
    return counts


def _leave_out_racks(counts: np.ndarray, boxes: BoxColumns, samples: np.ndarray, racks: BoxColumns) -> None:
    """Take back the mark of cycles in racks. Only where a centre lies on a face, rounding has to be the devkit's."""
    classes = [DETECTION_CLASSES.index(name) for name in RACK_CLASSES]
    cycles = np.flatnonzero(counts & np.isin(boxes.class_index, classes))
    first = racks.sample_first
    num_racks = (first[1:] - first[:-1])[samples[cycles]]
    cycles = np.repeat(cycles, num_racks)  # a row for each cycle and rack of a sample
    number = np.arange(len(cycles)) - np.repeat(np.cumsum(num_racks) - num_racks, num_racks)
    pairs = first[samples[cycles]] + number
    rotations = rotation_matrices(racks.rotation_wxyz)
    offsets = boxes.translation[cycles] - racks.translation[pairs]
    in_rack = np.einsum("nij,ni->nj", rotations[pairs], offsets)
    beyond = (np.abs(in_rack) - racks.size_wlh[pairs][:, [1, 0, 2]] / 2).max(axis=1, initial=-np.inf)
    is_inside = beyond < 0
    for row in np.flatnonzero(np.abs(beyond) < _MARGIN_M):
        rack = pairs[row]
        edges = _edges(racks.translation[rack], racks.size_wlh[rack], rotations[rack])
        is_inside[row] = _is_inside(boxes.translation[cycles[row]], *edges)
    counts[cycles[is_inside]] = False


def _edges(center: np.ndarray, size_wlh: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A corner of a box and the three edges that meet in it, rounded as the devkit's own corners are."""
    width, length, height = size_wlh
    corners = np.vstack(
        (
            length / 2 * np.array([1, 1, 1, 1, -1, -1, -1, -1]),
            width / 2 * np.array([1, -1, -1, 1, 1, -1, -1, 1]),
            height / 2 * np.array([1, 1, -1, -1, 1, 1, -1, -1]),
        )
    )
    corners = np.dot(rotation, corners) + center[:, None]
    return corners[:, 0], np.stack([corners[:, k] - corners[:, 0] for k in (4, 1, 3)])


def _is_inside(point: np.ndarray, corner: np.ndarray, edges: np.ndarray) -> bool:
    offset = (point - corner)[:, None]
    return all(0 <= np.dot(edge, offset)[0] <= np.dot(edge, edge) for edge in edges)

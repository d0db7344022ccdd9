"""Predictions as Arrow columns, one for each task and a row for each sample; see `prediction_reader` for the way back.

The columns speak for themselves in any tool that reads Parquet: boxes are lists of structs in the terms of the official
files (global frame, metres, quaternion w x y z), a plan is a struct, a map a list of probabilities in the order class,
row, column, occupancy the bytes of its voxels in the order x, y, z. Grids and the names of classes are in the metadata.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bevstack.evaluation.planning.ego_future import PLAN_STEPS
from bevstack.evaluation.planning.origin import PlanOrigin
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.predicted import Predicted, Task, motions_of_samples

TOKEN_COLUMN = "sample_token"
GEOMETRY = {
    "translation": ("x", "y", "z"),
    "size_wlh": ("width", "length", "height"),
    "rotation_wxyz": ("qw", "qx", "qy", "qz"),
    "velocity": ("vx", "vy"),
}
"""Field of `BoxColumns` -> fields of a box in the file."""

POSE_NUMBERS = 3


def _list_of(*fields: tuple[str, pa.DataType]) -> pa.DataType:
    return pa.list_(
        pa.field("element", pa.struct([pa.field(*each, nullable=False) for each in fields]), nullable=False)
    )


def _values(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


_BOX = [(name, pa.float64()) for names in GEOMETRY.values() for name in names]
_BOX += [("class_index", pa.int8()), ("score", pa.float64())]
ARROW_TYPES: dict[Task, pa.DataType] = {
    "detection": _list_of(*_BOX, ("attribute_index", pa.int8())),
    "tracking": _list_of(*_BOX, ("track_id", pa.string())),
    "motion": _list_of(
        ("instance", pa.string()), ("probabilities", _values(pa.float64())), ("points", _values(pa.float64()))
    ),
    "found_motion": _list_of(
        *_BOX,
        ("attribute_index", pa.int8()),
        ("probabilities", _values(pa.float64())),
        ("points", _values(pa.float64())),
    ),
    "planning": pa.struct(
        [
            pa.field("poses", _values(pa.float64()), nullable=False),
            pa.field("command_index", pa.int8(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("reasons", _values(pa.string()), nullable=False),
        ]
    ),
    "map": _values(pa.float32()),
    "occupancy": pa.binary(),
}
"""Task -> type of its column, which has the name of the task."""
EARLIER_TYPES: dict[Task, pa.DataType] = {
    "planning": pa.struct([field for field in ARROW_TYPES["planning"] if field.name in ("poses", "command_index")])
}
"""Task -> type of its column in files that do not say who made a plan; they are read all the same."""


def schema_of(tasks: Sequence[Task]) -> pa.Schema:
    """Columns of a file of some tasks."""
    columns = [pa.field(TOKEN_COLUMN, pa.string(), nullable=False)]
    return pa.schema([*columns, *(pa.field(task, ARROW_TYPES[task], nullable=False) for task in tasks)])


def to_table(predicted: Predicted) -> pa.Table:
    """The columns of some samples."""
    columns = [pa.array(predicted.sample_tokens, pa.string())]
    for task in predicted.tasks:
        columns.append(_ENCODERS[task](predicted))
    return pa.Table.from_arrays(columns, schema=schema_of(predicted.tasks))


# ---------------------------------------------------------------- to Arrow


def _boxes_to_arrow(boxes: BoxColumns, task: Task, more: Sequence[pa.Array] = ()) -> pa.Array:
    kind = ARROW_TYPES[task]
    values = [
        pa.array(np.ascontiguousarray(getattr(boxes, name)[:, k]))
        for name, parts in GEOMETRY.items()
        for k in range(len(parts))
    ]
    values += [pa.array(boxes.class_index), pa.array(boxes.score)]
    if task == "tracking":
        index = np.zeros(0, np.int64) if boxes.track_index is None else boxes.track_index
        values.append(pa.array(boxes.track_ids, pa.string()).take(pa.array(index)))
    else:
        values.append(pa.array(boxes.attribute_index))
    struct = pa.StructArray.from_arrays([*values, *more], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(boxes.sample_first, pa.int32()), struct, type=kind)


def _motion_to_arrow(predicted: Predicted) -> pa.Array:
    kind = ARROW_TYPES["motion"]
    assert predicted.motion is not None
    motion, places = motions_of_samples(predicted.motion, predicted.sample_tokens)
    if len(motion) < len(predicted.motion):
        known = set(predicted.sample_tokens)
        extra = next(token for token in predicted.motion.sample_tokens if token not in known)
        raise ValueError(f"field 'motion' has sample {extra}, which is none of the {len(known)} samples of the whole")
    exists = np.arange(motion.probabilities.shape[1]) < motion.num_modes[:, None]
    per_mode = motion.trajectories.shape[2] * 2
    points = motion.trajectories.reshape(*exists.shape, per_mode)[exists].reshape(-1)
    struct = pa.StructArray.from_arrays(
        [
            pa.array(motion.instance_tokens, pa.string()),
            _lists(motion.num_modes, motion.probabilities[exists], kind.value_type.field("probabilities").type),
            _lists(motion.num_modes * per_mode, points, kind.value_type.field("points").type),
        ],
        fields=list(kind.value_type),
    )
    first = np.searchsorted(places, np.arange(len(predicted.sample_tokens) + 1))
    return pa.ListArray.from_arrays(pa.array(first, pa.int32()), struct, type=kind)


def _found_motion_to_arrow(predicted: Predicted) -> pa.Array:
    found, kind = predicted.found_motion, ARROW_TYPES["found_motion"].value_type
    assert found is not None
    more = []
    for name, values in (("probabilities", found.probabilities), ("points", found.trajectories)):
        lengths = np.full(len(values), np.prod(values.shape[1:]), np.int64)
        more.append(_lists(lengths, values.reshape(-1), kind.field(name).type))
    return _boxes_to_arrow(found.boxes, "found_motion", more)


def _planning_to_arrow(predicted: Predicted) -> pa.Array:
    plans, kind = predicted.planning, ARROW_TYPES["planning"]
    assert plans is not None
    poses = _lists(
        np.full(len(plans.poses), PLAN_STEPS * POSE_NUMBERS), plans.poses.reshape(-1), kind.field("poses").type
    )
    origins = plans.origins or (PlanOrigin(),) * len(plans.poses)
    sources = pa.array([each.source for each in origins], pa.string())
    reasons = pa.array([list(each.reasons) for each in origins], kind.field("reasons").type)
    return pa.StructArray.from_arrays([poses, pa.array(plans.command_index), sources, reasons], fields=list(kind))


def _map_to_arrow(predicted: Predicted) -> pa.Array:
    maps = [each.probabilities.reshape(-1) for each in predicted.map or ()]
    values = np.concatenate([*maps, np.zeros(0, np.float32)])
    return _lists(np.array([len(each) for each in maps], np.int64), values, ARROW_TYPES["map"])


def _occupancy_to_arrow(predicted: Predicted) -> pa.Array:
    return pa.array([np.ascontiguousarray(each.semantics).tobytes() for each in predicted.occupancy or ()], pa.binary())


def _lists(lengths: np.ndarray, values: np.ndarray, kind: pa.DataType) -> pa.Array:
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values), type=kind)


_ENCODERS: dict[Task, Callable[[Any], pa.Array]] = {
    "detection": lambda predicted: _boxes_to_arrow(predicted.detection, "detection"),
    "tracking": lambda predicted: _boxes_to_arrow(predicted.tracking, "tracking"),
    "motion": _motion_to_arrow,
    "found_motion": _found_motion_to_arrow,
    "planning": _planning_to_arrow,
    "map": _map_to_arrow,
    "occupancy": _occupancy_to_arrow,
}

"""Predictions out of Arrow columns, every value checked before anything is made of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES, NO_ATTRIBUTE, OCCUPANCY_CLASSES
from bevstack.data.maps import MAP_CLASSES
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.motion.predictions import NUM_STEPS, MotionPredictions
from bevstack.evaluation.planning.ego_future import PLAN_STEPS
from bevstack.evaluation.planning.file import NO_COMMAND, PlanColumns
from bevstack.evaluation.planning.origin import PlanOrigin, said_origins
from bevstack.evaluation.predictions.arrow import GEOMETRY, POSE_NUMBERS, TOKEN_COLUMN
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.box_records import MAX_BOXES_PER_SAMPLE, TRACKING_CLASSES
from bevstack.evaluation.predictions.predicted import Predicted, Task
from bevstack.types.bev import BevGrid, VoxelGrid
from bevstack.types.scene import MapSegmentation, Occupancy
from bevstack.types.trajectory import COMMANDS


class TableReader:
    """Turns columns back into predictions; every fault names file, sample and field.

    Args:
        source: Name of the file, for messages.
        map_grid: Where maps lie; needed where there are any, as is `occupancy_grid`.
        planning: What holds for all plans: the fields of `PlanColumns` beside its arrays.
    """

    def __init__(
        self,
        source: str,
        *,
        map_grid: BevGrid | None = None,
        occupancy_grid: VoxelGrid | None = None,
        planning: dict[str, Any] | None = None,
    ) -> None:
        self.source, self.map_grid, self.occupancy_grid, self.planning = source, map_grid, occupancy_grid, planning

    def read(self, table: pa.Table) -> Predicted:
        """The predictions of a table, of those tasks that it has columns of.

        Raises:
            ValueError: a value is missing, not finite, or none that the task knows.
        """
        tokens = tuple(table.column(TOKEN_COLUMN).to_pylist())
        parts: dict[str, Any] = {}
        for task in table.column_names[1:]:
            column = table.column(task)
            array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
            if array.null_count:
                row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
                raise self._fault(tokens[row], task, "is missing")
            parts[task] = getattr(self, f"_{task}")(tokens, array)
        return Predicted(sample_tokens=tokens, **parts)

    def _detection(self, tokens: tuple[str, ...], array: pa.Array, task: Task = "detection") -> BoxColumns:
        columns, sample_index, struct = self._box_columns(tokens, array, task)
        attributes, last = struct.field("attribute_index").to_numpy(), len(ATTRIBUTES) - 1
        wrong = (attributes < NO_ATTRIBUTE) | (attributes > last)
        self._check(wrong, attributes, tokens, sample_index, f"{task}.attribute_index", f"-1 to {last}")
        return BoxColumns(**columns, attribute_index=attributes)

    def _tracking(self, tokens: tuple[str, ...], array: pa.Array) -> BoxColumns:
        columns, sample_index, struct = self._box_columns(tokens, array, "tracking")
        tracked = np.array([name in TRACKING_CLASSES for name in DETECTION_CLASSES])
        classes = columns["class_index"]
        allowed = ", ".join(str(k) for k in np.flatnonzero(tracked))
        self._check(~tracked[classes], classes, tokens, sample_index, "tracking.class_index", f"one of {allowed}")
        encoded = struct.field("track_id").dictionary_encode()
        names = tuple(encoded.dictionary.to_pylist())
        index = encoded.indices.to_numpy().astype(np.int64)
        nameless = np.array([not name for name in names], bool)
        if nameless.any():
            is_wrong = nameless[index]
            self._check(is_wrong, is_wrong, tokens, sample_index, "tracking.track_id", "a text that names the object")
        none = np.full(len(index), NO_ATTRIBUTE, np.int8)
        return BoxColumns(**columns, attribute_index=none, track_index=index, track_ids=names)

    def _box_columns(
        self, tokens: tuple[str, ...], array: pa.Array, task: Task
    ) -> tuple[dict[str, Any], np.ndarray, pa.StructArray]:
        counts, struct = array.value_lengths().to_numpy(), array.flatten()
        if (counts > MAX_BOXES_PER_SAMPLE).any():
            row = int(np.argmax(counts))
            raise self._fault(tokens[row], task, f"has {counts[row]} boxes; the protocol allows {MAX_BOXES_PER_SAMPLE}")
        sample_index = np.repeat(np.arange(len(tokens), dtype=np.int32), counts)
        columns: dict[str, Any] = {"sample_tokens": tokens, "sample_index": sample_index}
        for name, fields in GEOMETRY.items():
            columns[name] = np.empty((len(sample_index), len(fields)))
            for k, field in enumerate(fields):
                column = columns[name][:, k] = struct.field(field).to_numpy()
                if name != "velocity":
                    wrong = ~np.isfinite(column) if name != "size_wlh" else ~(np.isfinite(column) & (column > 0))
                    allowed = "finite" if name != "size_wlh" else "finite and positive"
                    self._check(wrong, column, tokens, sample_index, f"{task}.{field}", allowed)
        columns["score"], columns["class_index"] = (
            struct.field("score").to_numpy(),
            struct.field("class_index").to_numpy(),
        )
        self._check(~np.isfinite(columns["score"]), columns["score"], tokens, sample_index, f"{task}.score", "finite")
        classes, last = columns["class_index"], len(DETECTION_CLASSES) - 1
        wrong = (classes < 0) | (classes > last)
        self._check(wrong, classes, tokens, sample_index, f"{task}.class_index", f"0 to {last}")
        return columns, sample_index, struct

    def _motion(self, tokens: tuple[str, ...], array: pa.Array) -> MotionPredictions:
        place, modes, weights, points = self._modes(tokens, array, "motion")
        ends = np.cumsum(modes)
        return MotionPredictions.of(
            array.flatten().field("instance").to_pylist(),
            [tokens[k] for k in place],
            [points[end - count : end] for end, count in zip(ends, modes, strict=True)],
            [weights[end - count : end] for end, count in zip(ends, modes, strict=True)],
        )

    def _found_motion(self, tokens: tuple[str, ...], array: pa.Array) -> MotionColumns:
        boxes = self._detection(tokens, array, "found_motion")
        place, modes, weights, points = self._modes(tokens, array, "found_motion")
        count = int(modes[0]) if len(modes) else 1
        self._check(modes != count, modes, tokens, place, "found_motion.probabilities", f"{count} as for the first box")
        return MotionColumns(
            boxes=boxes,
            trajectories=points.reshape(-1, count, *points.shape[1:]),
            probabilities=weights.reshape(-1, count),
        )

    def _modes(
        self, tokens: tuple[str, ...], array: pa.Array, task: Task
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Place of each object's sample, its number of modes, and of all modes the probabilities and points (T, 2)."""
        struct = array.flatten()
        place = np.repeat(np.arange(len(tokens)), array.value_lengths().to_numpy())
        modes, per_object = (struct.field(name).value_lengths().to_numpy() for name in ("probabilities", "points"))
        weights, points = (struct.field(name).flatten().to_numpy() for name in ("probabilities", "points"))
        steps = per_object // (2 * np.maximum(modes, 1))
        wrong = (modes < 1) | (steps * 2 * modes != per_object) | (steps != steps[:1])
        allowed = "as many numbers for each mode: x and y of the same steps in the whole file"
        self._check(wrong, per_object, tokens, place, f"{task}.points", allowed)
        bad = ~np.isfinite(weights) | (weights < 0)
        self._check(bad, weights, tokens, np.repeat(place, modes), f"{task}.probabilities", "finite and not negative")
        self._check(~np.isfinite(points), points, tokens, np.repeat(place, per_object), f"{task}.points", "finite")
        return place, modes, weights, points.reshape(-1, int(steps[0]) if len(steps) else NUM_STEPS, 2)

    def _planning(self, tokens: tuple[str, ...], array: pa.Array) -> PlanColumns:
        poses, commands = array.field("poses"), array.field("command_index").to_numpy()
        rows, sizes = np.arange(len(tokens)), poses.value_lengths().to_numpy()
        allowed = f"{PLAN_STEPS} steps of x, y, yaw, {PLAN_STEPS * POSE_NUMBERS} numbers"
        self._check(sizes != PLAN_STEPS * POSE_NUMBERS, sizes, tokens, rows, "planning.poses", allowed)
        values = poses.flatten().to_numpy().reshape(-1, PLAN_STEPS, POSE_NUMBERS)
        wrong = ~np.isfinite(values[..., :2]).all(axis=(1, 2)) | np.isinf(values[..., 2]).any(axis=1)
        self._check(wrong, values, tokens, rows, "planning.poses", "finite; only yaw may be NaN")
        unknown = (commands < NO_COMMAND) | (commands >= len(COMMANDS))
        self._check(unknown, commands, tokens, rows, "planning.command_index", f"-1 to {len(COMMANDS) - 1}")
        return PlanColumns(
            sample_tokens=tokens,
            poses=np.array(values),
            command_index=np.array(commands),
            origins=_origins(array),
            **(self.planning or {}),
        )

    def _map(self, tokens: tuple[str, ...], array: pa.Array) -> tuple[MapSegmentation, ...]:
        grid = self.map_grid
        if grid is None:  # only a file without samples has none
            return ()
        shape = (len(MAP_CLASSES), *grid.shape_yx)
        rows, sizes = np.arange(len(tokens)), array.value_lengths().to_numpy()
        self._check(sizes != np.prod(shape), sizes, tokens, rows, "map", f"{np.prod(shape)} numbers for {shape}")
        values = array.flatten().to_numpy().reshape(-1, *shape)
        wrong = np.array([not (each.min() >= 0 and each.max() <= 1) for each in values], bool)
        self._check(wrong, wrong, tokens, rows, "map", "probabilities from 0 to 1")
        return tuple(MapSegmentation(probabilities=each, grid=grid) for each in values)

    def _occupancy(self, tokens: tuple[str, ...], array: pa.Array) -> tuple[Occupancy, ...]:
        grid = self.occupancy_grid
        if grid is None:
            return ()
        found = []
        for token, value in zip(tokens, array, strict=True):
            voxels = np.frombuffer(value.as_buffer(), np.uint8)
            if voxels.size != np.prod(grid.shape_xyz):
                raise self._fault(token, "occupancy", f"has {voxels.size} voxels, the grid {grid.shape_xyz}")
            if (worst := int(voxels.max())) >= len(OCCUPANCY_CLASSES):
                raise self._fault(
                    token, "occupancy", f"has class {worst}, which is none of 0 to {len(OCCUPANCY_CLASSES) - 1}"
                )
            found.append(Occupancy(semantics=voxels.reshape(grid.shape_xyz), grid=grid))
        return tuple(found)

    def _check(
        self, wrong: np.ndarray, values: Any, tokens: Sequence[str], place: np.ndarray, field: str, allowed: str
    ) -> None:
        """Raise for the first wrong row."""
        if not wrong.any():
            return
        row = int(np.argmax(wrong))
        number = int(np.sum(place[:row] == place[row]))
        where = f", box {number}" if field.partition(".")[0] in ("detection", "tracking", "found_motion") else ""
        shown = "" if values is wrong else f" is {np.asarray(values[row]).tolist()};"
        raise ValueError(
            f"{self.source}: sample {tokens[int(place[row])]}{where}: field '{field}'{shown} must be {allowed}"
        )

    def _fault(self, token: str, field: str, what: str) -> ValueError:
        return ValueError(f"{self.source}: sample {token}: field '{field}' {what}")


def _origins(plans: pa.StructArray) -> tuple[PlanOrigin, ...]:
    """Who made each plan; none of a file of the time before that was kept."""
    if plans.type.get_field_index("source") < 0:
        return ()
    columns = (plans.field(name).to_pylist() for name in ("source", "reasons"))
    return said_origins(
        [PlanOrigin(source=source, reasons=tuple(reasons)) for source, reasons in zip(*columns, strict=True)]
    )

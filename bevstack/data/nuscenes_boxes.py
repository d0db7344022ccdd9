"""Annotated boxes of nuScenes (centre, width-length-height and quaternion, in the global frame) as rows in `ego`."""

import numpy as np
from jaxtyping import Float32, Float64, Int64

from bevstack.data.index import DatasetIndex
from bevstack.geometry.transforms import from_quaternion, yaw_of
from bevstack.types.boxes import BOX_COLUMNS, BoxIndex
from bevstack.types.errors import DatasetError


def boxes_in_ego(
    index: DatasetIndex, annotation_rows: Int64[np.ndarray, " N"], T_ego_global: Float64[np.ndarray, "4 4"]
) -> Float32[np.ndarray, "N 9"]:
    """Annotated boxes as `BoxIndex` rows in `ego`; yaw is that of the box's forward axis, velocity may be NaN.

    Raises:
        DatasetError: a size is not positive, or a number other than the velocity is not finite.
    """
    _check_boxes(index, annotation_rows)
    T_global_box = from_quaternion(
        index["annotation_rotation"][annotation_rows], index["annotation_translation"][annotation_rows]
    )
    T_ego_box = T_ego_global @ T_global_box
    size_wlh = index["annotation_size_wlh"][annotation_rows]
    rows = np.empty((len(annotation_rows), BOX_COLUMNS))
    rows[:, : BoxIndex.Z + 1] = T_ego_box[:, :3, 3]
    rows[:, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1] = size_wlh[:, [1, 0, 2]]
    rows[:, BoxIndex.YAW] = yaw_of(T_ego_box)
    velocity = index["annotation_velocity"][annotation_rows]
    rows[:, BoxIndex.VX :] = (velocity @ T_ego_global[:3, :3].T)[:, :2]
    return rows.astype(np.float32)


def _check_boxes(index: DatasetIndex, annotation_rows: np.ndarray) -> None:
    columns = [index[f"annotation_{name}"][annotation_rows] for name in ("translation", "size_wlh", "rotation")]
    usable = np.isfinite(np.concatenate(columns, axis=1)).all(axis=1) & (columns[1] > 0).all(axis=1)
    usable &= np.linalg.norm(columns[2], axis=1) > 0
    if usable.all():
        return
    row = int(np.flatnonzero(~usable)[0])
    place, size, rotation = (column[row].tolist() for column in columns)
    raise DatasetError(
        f"annotation {index.annotation_tokens[int(annotation_rows[row])]} in "
        f"{index.folder / 'sample_annotation.json'} has translation {place}, size {size} and rotation {rotation}: "
        "a box needs finite numbers and a positive size; correct the record or take it out"
    )

"""The tables that scoring needs, answered from the memory-mapped index as the devkit's functions ask for them.

`nuscenes.NuScenes` parses every table (half a minute and gigabytes for the full data set) before it answers; scoring
looks at key frames, poses and annotations only, which the index opens in milliseconds. Annotation "tokens" are index
rows here: the devkit only hands them back.
"""

from collections.abc import Sequence
from typing import Any

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.types.errors import DatasetError

_DEFAULT_SPLITS = ("val", "mini_val")


class ScoringTables:
    """The queries that the devkit's loaders make, and no others: `get`, `box_velocity`, `attribute`, `version`.

    Args:
        index: An open index.
    """

    def __init__(self, index: DatasetIndex) -> None:
        self.index = index
        self.version = index.version
        self.attribute = [{"token": row, "name": name} for row, name in enumerate(index.attributes)]

    def get(self, table: str, token: Any) -> dict[str, Any]:
        """One record, with the fields that scoring reads.

        Raises:
            DatasetError: a sample does not exist or has no LiDAR key frame, which defines the vehicle's place.
        """
        if table == "sample":
            return self._sample(token)
        if table == "sample_annotation":
            return self._annotation(token)
        if table == "sample_data":
            return {"ego_pose_token": token}
        assert table == "ego_pose", table
        return {"translation": self.index["data_pose"][token, :3].tolist()}

    def box_velocity(self, row: int) -> Sequence[float]:
        """Velocity of an annotation, (vx, vy, vz) in the global frame in metres per second; NaN where unknown."""
        return self.index["annotation_velocity"][row].tolist()

    def split_tokens(self, split: str) -> tuple[str, ...]:
        """Sample tokens of a split, in order of scene and time.

        Raises:
            DatasetError: there is no such split, or none of its scenes is in the tables.
        """
        tokens = tuple(self.index.sample_tokens[int(row)] for row in self.index.samples_of_split(split))
        if not tokens:
            raise DatasetError(f"split '{split}' of {self.index.folder} is empty; name another one with --split")
        return tokens

    def _sample(self, token: str) -> dict[str, Any]:
        sample = self.index.sample_row(token)
        row = self.index.key_data_row(sample, LIDAR_NAME)
        if row < 0:
            raise DatasetError(f"sample {token} in {self.index.folder} has no {LIDAR_NAME} key frame")
        return {"anns": self.index.annotation_rows(sample), "data": {LIDAR_NAME: row}}

    def _annotation(self, row: int) -> dict[str, Any]:
        index = self.index
        attribute = int(index["annotation_attribute"][row])
        return {
            "token": row,
            "category_name": index.categories[int(index["instance_category"][index["annotation_instance"][row]])],
            "attribute_tokens": [] if attribute < 0 else [attribute],
            "translation": index["annotation_translation"][row].tolist(),
            "size": index["annotation_size_wlh"][row].tolist(),
            "rotation": index["annotation_rotation"][row].tolist(),
            "num_lidar_pts": int(index["annotation_num_lidar_points"][row]),
            "num_radar_pts": int(index["annotation_num_radar_points"][row]),
        }


def choose_split(index: DatasetIndex, split: str | None) -> str:
    """The split to use: the one asked for, else the data set's only one, else nuScenes' validation split.

    Raises:
        DatasetError: several splits fit and none was named.
    """
    if split is not None:
        return split
    splits = index.splits()
    if len(splits) == 1:
        return next(iter(splits))
    for name in _DEFAULT_SPLITS:
        if name in splits:
            return name
    raise DatasetError(f"{index.folder} has the splits {', '.join(splits) or 'none'}: name one with --split")

"""What scoring needs to know of a data set's LiDAR: where it stood, and labels that are in its own frame."""

import numpy as np
from jaxtyping import Float64

from bevstack.data.available_labels import occupancy_path_of
from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.data.occupancy import OPENOCCUPANCY_LIDAR_GRID, openoccupancy_in_lidar, read_openoccupancy
from bevstack.evaluation.dense.rayiou import lidar_origins
from bevstack.types.frame import OccupancyGrid
from bevstack.types.scene import Occupancy


class LidarFrame:
    """The LiDAR of each sample of a data set.

    Args:
        index: an open index.
    """

    def __init__(self, index: DatasetIndex) -> None:
        self.index = index

    def origins(self, token: str) -> Float64[np.ndarray, "O 3"]:
        """Where the rays of `occ/rayiou` start, in the `ego` of a sample.

        Raises:
            DatasetError: there is no such sample.
            CalibrationError: a pose or mounting is not usable.
        """
        return lidar_origins(self.index, self.index.sample_row(token))

    def openoccupancy(self, token: str, prediction: Occupancy) -> tuple[Occupancy, OccupancyGrid]:
        """Prediction and labels of a sample where OpenOccupancy compares them.

        The labels are those of the file. The prediction is moved from `ego` once; voxels that it does not reach (the
        last metre ahead, and corners of a tilted LiDAR's grid) are free.

        Raises:
            ValueError: the prediction is not on `OPENOCCUPANCY_GRID`.
            DatasetError: the labels are missing or damaged.
        """
        sample = self.index.sample_row(token)
        T_ego_lidar = self.index.T_ego_sensor([self.index.key_data_row(sample, LIDAR_NAME)])[0]
        path = self.index.root / occupancy_path_of(self.index, sample, "openoccupancy")
        moved = openoccupancy_in_lidar(prediction.semantics, T_ego_lidar)
        labels = read_openoccupancy(path, sample_token=token)
        return Occupancy(semantics=moved, grid=OPENOCCUPANCY_LIDAR_GRID), labels

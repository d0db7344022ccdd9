"""Point labels of nuScenes-lidarseg: one byte for each point of a key sweep, in the order of its file.

The byte is a category (0 to 31); the lidarseg challenge and Occ3D gather the categories in 16 classes and "others"
(Fong et al., Panoptic nuScenes, RA-L 2022; the layout is that of nuscenes-devkit).
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bevstack.types.errors import DatasetError

NOISE, EGO = 0, 31
"""Categories of returns that belong to nothing, and to the vehicle itself."""

CHALLENGE_CLASS = np.zeros(32, np.uint8)
"""Category (0 to 31) -> class of `OCCUPANCY_CLASSES`; 0 gathers what the challenge leaves out."""
for _category, _challenge in {
    9: 1, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6, 2: 7, 3: 7, 4: 7, 6: 7, 12: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 30: 16,
}.items():  # fmt: skip
    CHALLENGE_CLASS[_category] = _challenge


def labels_path(root: Path, version: str, data_token: str) -> Path:
    """Where the labels of a LiDAR reading lie."""
    return root / "lidarseg" / version / f"{data_token}_lidarseg.bin"


def read_categories(path: Path, num_points: int) -> UInt8[np.ndarray, " M"]:
    """Category of each of the `num_points` points of a sweep.

    Raises:
        DatasetError: the file is missing, of another length, or holds an unknown category.
    """
    try:
        categories = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; extract the lidarseg archive again") from error
    if len(categories) != num_points:
        raise DatasetError(f"{path}: {len(categories)} labels for a sweep of {num_points} points: fetch both again")
    if len(categories) and categories.max() >= len(CHALLENGE_CLASS):
        raise DatasetError(f"{path}: category {categories.max()} is not one of 0 to {len(CHALLENGE_CLASS) - 1}")
    return categories

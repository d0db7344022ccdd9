import numpy as np
import pytest

from bevstack.data.class_names import CLASS_OF_CATEGORY, OCCUPANCY_CLASSES
from bevstack.data.lidarseg import CHALLENGE_CLASS, EGO, NOISE, labels_path, read_categories
from bevstack.sim.nuscenes_tables import LIDARSEG_CATEGORIES
from bevstack.types.errors import DatasetError


def test_categories_of_the_detection_classes_keep_their_class():
    for category, name in CLASS_OF_CATEGORY.items():
        assert OCCUPANCY_CLASSES[CHALLENGE_CLASS[LIDARSEG_CATEGORIES.index(category)]] == name


def test_ground_and_background_have_their_classes_and_the_rest_is_others():
    named = {"flat.driveable_surface": "driveable_surface", "flat.other": "other_flat", "flat.sidewalk": "sidewalk",
             "flat.terrain": "terrain", "static.manmade": "manmade", "static.vegetation": "vegetation"}  # fmt: skip
    for row, category in enumerate(LIDARSEG_CATEGORIES):
        expected = named.get(category) or CLASS_OF_CATEGORY.get(category, "others")
        assert OCCUPANCY_CLASSES[CHALLENGE_CLASS[row]] == expected
    assert LIDARSEG_CATEGORIES[NOISE] == "noise" and LIDARSEG_CATEGORIES[EGO] == "vehicle.ego"


def test_labels_are_read_and_damaged_files_are_named(tmp_path):
    path = labels_path(tmp_path, "v1.0-mini", "abc")
    with pytest.raises(DatasetError, match="abc_lidarseg.bin"):
        read_categories(path, 3)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes([0, 24, 31]))
    assert read_categories(path, 3).tolist() == [0, 24, 31]
    with pytest.raises(DatasetError, match="3 labels for a sweep of 4 points"):
        read_categories(path, 4)
    path.write_bytes(bytes([0, 24, 32]))
    with pytest.raises(DatasetError, match="category 32"):
        read_categories(path, 3)
    assert CHALLENGE_CLASS.dtype == np.uint8

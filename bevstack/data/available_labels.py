"""Which labels a data set brings beside its tables: maps and occupancy come in downloads of their own."""

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.index import DatasetIndex
from bevstack.data.occupancy import OCCUPANCY_FORMATS, OccupancyFormat, occupancy_path


def has_map(index: DatasetIndex, split: str) -> bool:
    """Whether the vector map of any location of the split is there."""
    locations = {index.scenes[row].location for row in index.scenes_of_split(split)}
    return any((index.root / "maps" / "expansion" / f"{location}.json").is_file() for location in locations)


def has_occupancy(index: DatasetIndex, split: str, layout: OccupancyFormat) -> bool:
    """Whether any key frame of the split has an occupancy label of this format."""
    return any(
        (index.root / occupancy_path_of(index, sample, layout)).is_file()
        for sample in index.samples_of_split(split).tolist()
    )


def occupancy_format(index: DatasetIndex, split: str) -> OccupancyFormat | None:
    """The first format in which a key frame of the split has an occupancy label; None where there is none."""
    return next((layout for layout in OCCUPANCY_FORMATS if has_occupancy(index, split, layout)), None)


def occupancy_path_of(index: DatasetIndex, sample: int, layout: OccupancyFormat) -> str:
    """Where the occupancy labels of a sample row are, below the root; there need not be such a file."""
    scene, reference = index.scene_of_sample(sample), index.key_data_row(sample, LIDAR_NAME)
    return occupancy_path(
        layout,
        scene_name=scene.name,
        scene_token=scene.token,
        sample_token=index.sample_tokens[sample],
        lidar_token=index.data_tokens[reference] if reference >= 0 else "",
    )

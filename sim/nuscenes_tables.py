"""The thirteen tables and lidarseg.json of a data set in nuScenes format, put together from its scenes.

Schema: nuscenes-devkit, docs/schema_nuscenes.md. Tokens are md5 sums of what they name, so that
equal seeds give equal tables.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import orjson

from bevstack.data.class_names import ATTRIBUTES, CAMERA_NAMES, LIDAR_NAME

VERSION = "v1.0-world"
SPLIT = "worlds"
LOCATIONS = ("boston-seaport", "singapore-queenstown", "singapore-onenorth", "singapore-hollandvillage")
"""The devkit opens maps by these four names only; scenes take turns on them."""

LIDARSEG_CATEGORIES = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck", "flat.driveable_surface",
    "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade", "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip
"""The 32 categories of nuScenes-lidarseg; the position is the label in the .bin files."""

VISIBILITY_LEVELS = ("v0-40", "v40-60", "v60-80", "v80-100")
"""Token '1' to '4': share of the object's pixels that no other object hides, over all cameras."""

SCENE_TABLES = (
    "log", "calibrated_sensor", "ego_pose", "scene", "sample", "sample_data", "instance", "sample_annotation",
    "lidarseg",
)  # fmt: skip
"""Tables that grow by scene."""

Row = dict[str, object]


def token(*content: object) -> str:
    """32 hexadecimal digits that name some content."""
    return hashlib.md5(repr(content).encode(), usedforsecurity=False).hexdigest()


def visibility_token(visible_px: int, silhouette_px: int) -> str:
    """Token of the visibility level; '1' when the object is in no picture."""
    share = visible_px / silhouette_px if silhouette_px else 0.0
    return str(1 + sum(share > bound for bound in (0.4, 0.6, 0.8)))


def _fixed_tables() -> dict[str, list[Row]]:
    return {
        "category": [
            {"token": token("category", name), "name": name, "description": "", "index": index}
            for index, name in enumerate(LIDARSEG_CATEGORIES)
        ],
        "attribute": [{"token": token("attribute", name), "name": name, "description": ""} for name in ATTRIBUTES],
        "visibility": [
            {"token": str(k + 1), "level": level, "description": f"visibility of whole object is {level[1:]} %"}
            for k, level in enumerate(VISIBILITY_LEVELS)
        ],
        "sensor": [
            {
                "token": token("sensor", name),
                "channel": name,
                "modality": "lidar" if name == LIDAR_NAME else "camera",
            }
            for name in (*CAMERA_NAMES, LIDAR_NAME)
        ],
    }


def _map_table(logs: Sequence[Row]) -> list[Row]:
    rows: list[Row] = []
    for location in LOCATIONS:
        tokens = [log["token"] for log in logs if log["location"] == location]
        rows.append(
            {
                "category": "semantic_prior",
                "token": token("map", location),
                "filename": f"maps/{token('map', location)}.png",
                "log_tokens": tokens,
            }
        )
    return rows


def semantic_prior_path(location: str) -> str:
    """Path, below the data set's root, of the picture that map.json names for a location."""
    return f"maps/{token('map', location)}.png"


def write_tables(root: Path, scenes: Sequence[dict[str, list[Row]]]) -> None:
    """Write all tables and splits.json of a data set.

    Args:
        root: folder of the data set.
        scenes: per scene the rows of each of `SCENE_TABLES`, in order.
    """
    tables = _fixed_tables()
    for name in SCENE_TABLES:
        tables[name] = [row for scene in scenes for row in scene[name]]
    tables["map"] = _map_table(tables["log"])
    folder = root / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        replace_file(folder / f"{name}.json", orjson.dumps(rows))
    names = [row["name"] for row in tables["scene"]]
    replace_file(folder / "splits.json", orjson.dumps({SPLIT: names}, option=orjson.OPT_INDENT_2))


def replace_file(path: Path, content: bytes) -> None:
    """Write beside the target, then rename."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)

"""The class and attribute tables of nuScenes detection, and how its 23 annotated categories map onto them.

The order is that of the detection benchmark (Caesar et al., nuScenes, CVPR 2020) and is the meaning of every
`class_index` and `attribute_index` in the stack.
"""

DETECTION_CLASSES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
)

ATTRIBUTES = (
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "cycle.with_rider",
    "cycle.without_rider",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)

NO_ATTRIBUTE = -1

OCCUPANCY_CLASSES = (
    "others",
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
    "free",
)
"""Classes of a voxel, in the order of Occ3D-nuScenes: the nuScenes-lidarseg challenge with "free" at the end."""

OCCUPANCY_FREE = OCCUPANCY_CLASSES.index("free")
OCCUPANCY_IGNORE = 255
"""A voxel of which the labels say nothing."""

CLASS_OF_CATEGORY = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
"""Categories that are not listed (animals, strollers, debris, ...) belong to no detection class."""

_CYCLE = ("cycle.with_rider", "cycle.without_rider")
_VEHICLE = ("vehicle.moving", "vehicle.parked", "vehicle.stopped")
_PEDESTRIAN = ("pedestrian.moving", "pedestrian.sitting_lying_down", "pedestrian.standing")

ATTRIBUTES_OF_CLASS: dict[str, tuple[str, ...]] = {
    "car": _VEHICLE,
    "truck": _VEHICLE,
    "bus": _VEHICLE,
    "trailer": _VEHICLE,
    "construction_vehicle": _VEHICLE,
    "pedestrian": _PEDESTRIAN,
    "motorcycle": _CYCLE,
    "bicycle": _CYCLE,
    "traffic_cone": (),
    "barrier": (),
}

CAMERA_NAMES = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""The surround cameras, clockwise from the front; the order of the N axis of every batch."""

LIDAR_NAME = "LIDAR_TOP"

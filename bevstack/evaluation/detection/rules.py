"""The constants of `det/nusc-cvpr19`: the devkit's configuration `detection_cvpr_2019`."""

PROTOCOL = "det/nusc-cvpr19"
"""Identity of the protocol; numbers under different identities are not comparable."""

CLASS_RANGE_M = {
    "car": 50.0,
    "truck": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "construction_vehicle": 50.0,
    "pedestrian": 40.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "traffic_cone": 30.0,
    "barrier": 30.0,
}
"""A box at this distance from the vehicle or beyond it does not count."""

MATCH_DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
"""A prediction matches an object whose centre is closer than this on the ground."""
TP_DISTANCE_M = 2.0
"""Where the true-positive errors are taken."""

MIN_RECALL = 0.1
MIN_PRECISION = 0.1
"""Precision below it counts nothing, and it is subtracted from the rest."""
MEAN_AP_WEIGHT = 5
"""Weight of mAP in NDS, where each of the five errors has the weight 1."""
RECALL_POINTS = 101

TP_FIELDS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
ERROR_NAMES = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}
"""The devkit's field -> the name that papers use."""
UNDEFINED_ERRORS = {"traffic_cone": ("orient_err", "vel_err", "attr_err"), "barrier": ("vel_err", "attr_err")}
"""What the protocol does not define for a class."""

HALF_TURN_CLASS = "barrier"
"""Its two ends look the same: headings are compared up to half a turn."""
RACK_CATEGORY = "static_object.bicycle_rack"
RACK_CLASSES = ("bicycle", "motorcycle")
"""Not counted inside a bicycle rack."""

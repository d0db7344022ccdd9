"""Every protocol that bevstack scores: its identity, which travels with each number, and where it comes from.

Numbers under different identities are never set side by side, however alike their names are; `same_protocols` is how a
table asks. The rules of a protocol stand in its own file, and in words for users in `docs/metrics.md`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bevstack.types.errors import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolInfo:
    """What one identity stands for."""

    task: str
    """What is predicted: a key of `TASKS`."""
    title: str
    """A few words for the head of a table."""
    source: str
    """The paper or code that defines it."""
    headline: str
    """The field of its results that stands for the whole, as it is named in `metrics.json`."""


TASKS = {
    "detection": "objects",
    "tracking": "objects with an identity",
    "map": "the map around the vehicle",
    "occupancy": "what fills space",
    "lidarseg": "the class of every LiDAR point",
    "motion": "where objects go next",
    "planning": "where the vehicle goes next",
    "instance": "objects seen from above, through time",
    "driving-qa": "answers to questions about a scene",
}
"""Task -> what a model says."""

_OCC3D = "Tian et al., Occ3D, NeurIPS 2023"
_OPENOCCUPANCY = "Wang et al., OpenOccupancy, ICCV 2023"
_RAYIOU = "Liu et al., SparseOcc, ECCV 2024, section 5"
_UNIAD = "Hu et al., UniAD, CVPR 2023, and its released code"
_VAD = "Jiang et al., VAD, ICCV 2023, and its released code"
_NUSCENES = "Caesar et al., nuScenes, CVPR 2020"


def _info(task: str, title: str, headline: str, source: str) -> ProtocolInfo:
    return ProtocolInfo(task=task, title=title, source=source, headline=headline)


PROTOCOLS: dict[str, ProtocolInfo] = {
    "det/nusc-cvpr19": _info("detection", "NDS, mAP and TP errors", "nds", f"{_NUSCENES}; detection_cvpr_2019"),
    "track/nusc-2020": _info("tracking", "AMOTA and its relatives", "amota", f"{_NUSCENES}; tracking_nips_2019"),
    "map/bevfusion-iou": _info("map", "IoU at the best threshold", "mean_iou", "Liu et al., BEVFusion, ICRA 2023"),
    "map/iou-fixed-0.5": _info("map", "IoU at 0.5", "mean_iou", "the counts of map/bevfusion-iou"),
    "map/ap": _info("map", "average precision of cells", "mean_ap", "the cells of map/bevfusion-iou, ranked"),
    "map/chamfer-ap": _info("map", "AP of map lines by Chamfer distance", "mean_ap", "Li et al., HDMapNet, ICRA 2022"),
    "occ/occ3d-miou": _info("occupancy", "mIoU within the camera mask", "mean_iou", _OCC3D),
    "occ/occ3d-miou-lidar-mask": _info("occupancy", "mIoU within the LiDAR mask", "mean_iou", _OCC3D),
    "occ/occ3d-miou-no-mask": _info("occupancy", "mIoU of all labelled voxels", "mean_iou", _OCC3D),
    "occ/openoccupancy": _info("occupancy", "mIoU in the LiDAR's frame", "mean_iou", _OPENOCCUPANCY),
    "occ/openoccupancy-in-ego": _info("occupancy", "mIoU in the vehicle's frame", "mean_iou", _OPENOCCUPANCY),
    "occ/all-voxels": _info("occupancy", "mIoU on a grid of no benchmark", "mean_iou", "the counts of occ/occ3d-miou"),
    "occ/rayiou": _info("occupancy", "RayIoU on the Occ3D grid", "mean_iou", _RAYIOU),
    "occ/rayiou-other-grid": _info("occupancy", "RayIoU on another grid", "mean_iou", _RAYIOU),
    "lidarseg/nusc": _info("lidarseg", "mIoU of LiDAR points", "mean_iou", "Fong et al., Panoptic nuScenes, RA-L 2022"),
    "motion/nusc": _info("motion", "minADE, minFDE and miss rate", "min_ade_m", f"{_NUSCENES}; prediction challenge"),
    "motion/found-nusc": _info(
        "motion", "minADE, minFDE and miss rate of found objects", "min_ade_m", "the measures of motion/nusc"
    ),
    "motion/epa-uniad": _info("motion", "EPA over 6 s", "epa", _UNIAD),
    "motion/epa-vad": _info("motion", "EPA over 3 s", "epa", _VAD),
    "plan/uniad": _info("planning", "distance and collisions at each second", "l2_m", _UNIAD),
    "plan/stp3": _info("planning", "distance and collisions up to each second", "l2_m", "Hu et al., ST-P3, ECCV 2022"),
    "plan/vad": _info("planning", "distance and collisions up to each second", "l2_m", _VAD),
    "plan/polygon": _info(
        "planning", "collisions of turned rectangles", "collision_until", "Sun et al., SparseDrive, ICRA 2025"
    ),
    "plan/boundary": _info(
        "planning", "crossing of the drivable boundary", "leaves_until", "Li et al., BEV-Planner, CVPR 2024"
    ),
    "instance/vpq": _info("instance", "video panoptic quality", "vpq", "Hu et al., FIERY, ICCV 2021"),
    "driving-qa/deterministic": _info(
        "driving-qa", "terms without a judge", "final", "Sima et al., DriveLM, ECCV 2024"
    ),
}
"""Identity -> what it stands for, in the order in which tables show them."""


def protocol(identity: str) -> ProtocolInfo:
    """What an identity stands for.

    Raises:
        ValueError: there is no such protocol.
    """
    if identity not in PROTOCOLS:
        raise ValueError(f"there is no protocol '{identity}'{did_you_mean(identity, PROTOCOLS)}")
    return PROTOCOLS[identity]


def protocols_of(task: str) -> tuple[str, ...]:
    """Identities of all protocols of a task.

    Raises:
        ValueError: there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"there is no task '{task}'{did_you_mean(task, TASKS)}; there are {', '.join(TASKS)}")
    return tuple(identity for identity, info in PROTOCOLS.items() if info.task == task)


def same_protocols(sets: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The identities of several results that share a table.

    Raises:
        ValueError: an identity is not known, or the results do not all have the same ones.
    """
    ordered = [tuple(dict.fromkeys(identities)) for identities in sets]
    for identity in (identity for identities in ordered for identity in identities):
        protocol(identity)
    for identities in ordered[1:]:
        if odd := sorted(set(identities) ^ set(ordered[0])):
            raise ValueError(
                f"results under different protocols do not share a table: only some of them have {', '.join(odd)}"
            )
    return ordered[0] if ordered else ()

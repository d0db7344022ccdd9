"""Rows of one checkpoint with fewer sensors: the frame is thinned before the model sees it."""

from dataclasses import replace
from typing import Literal, get_args

from bevstack.types.frame import Frame

Modality = Literal["fusion", "lidar", "camera"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


def restrict(frame: Frame, modality: Modality) -> Frame:
    """The frame with all sensors, without cameras, or without LiDAR. Annotations and poses stay.

    Raises:
        ValueError: the modality is unknown, or the frame has nothing of it.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality '{modality}' is unknown; choose one of {', '.join(MODALITIES)}")
    if modality == "lidar":
        frame = replace(frame, cameras=())
    elif modality == "camera":
        frame = replace(frame, lidar=None)
    if not frame.cameras and frame.lidar is None:
        raise ValueError(f"frame {frame.token} of {frame.scene_name} has no {modality} data; choose another modality")
    return frame

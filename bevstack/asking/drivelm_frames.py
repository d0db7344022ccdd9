"""DriveLM key frames without a data set around them: pictures, a nominal rig, and the objects that annotators named.

The training file names the six pictures of a key frame and its key objects with 2D boxes; with the whole nuScenes at
hand the tables say more and none of this is needed. Here the calibration is that of the nuScenes recording vehicle,
rounded (`bevstack.sim.sensors.rig`): cameras of the two cars differ from it by up to some tens of pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bevstack.asking.believed import Belief, Rectangle, Thing, numbered
from bevstack.asking.grammar import CLASS_WORDS, class_word
from bevstack.asking.references import references_in
from bevstack.data.images import ImageSize, read_image
from bevstack.sim.sensors.rig import NATIVE_HEIGHT_PX, NATIVE_WIDTH_PX, NUSCENES_CAMERAS, CameraSpec
from bevstack.types.errors import DatasetError
from bevstack.types.frame import CameraImage, EgoState, Frame

NATIVE = ImageSize(NATIVE_HEIGHT_PX, NATIVE_WIDTH_PX)

_SIZE_LWH = {"car": (4.6, 1.9, 1.7), "truck": (7.0, 2.5, 2.8), "bus": (11.0, 2.9, 3.4), "pedestrian": (0.7, 0.7, 1.8),
             "bicycle": (1.7, 0.6, 1.3), "motorcycle": (2.1, 0.8, 1.5)}  # fmt: skip
_ATTRIBUTES = {"Moving": "vehicle.moving", "Stationary": "vehicle.stopped"}
_FAR_M, _NEAR_M = 60.0, 3.0
_SIGN_M = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFrame:
    """One key frame of the training file."""

    scene: str
    token: str
    image_paths: Mapping[str, str]
    objects: Mapping[str, Mapping[str, Any]]
    """Reference -> Category, Status, Visual_description and 2d_bbox, as annotated."""


def read_key_frames(path: str | Path) -> dict[str, KeyFrame]:
    """Token -> key frame of a DriveLM training file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key frame lacks its pictures or objects; names scene, key frame and field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    found = {}
    for scene, entry in orjson.loads(path.read_bytes()).items():
        for token, content in entry.get("key_frames", {}).items():
            for field in ("image_paths", "key_object_infos"):
                if not isinstance(content.get(field), dict):
                    raise ValueError(
                        f"{path}: scene {scene}, key frame {token}: field '{field}' is missing; a training file of "
                        "DriveLM has it"
                    )
            found[token] = KeyFrame(
                scene=scene, token=token, image_paths=content["image_paths"], objects=content["key_object_infos"]
            )
    return found


def frame_of(key_frame: KeyFrame, root: str | Path, size: ImageSize) -> Frame:
    """The pictures of a key frame below `root`, with the nominal calibration; neither LiDAR nor motion is known.

    Raises:
        DatasetError: none of its pictures is there.
    """
    cameras = []
    for spec in NUSCENES_CAMERAS:
        path = Path(root) / "samples" / key_frame.image_paths.get(spec.name, "").partition("samples/")[2]
        if not path.is_file():
            continue
        rgb, A_img = read_image(path, size)
        cameras.append(
            CameraImage(
                name=spec.name,
                rgb=rgb,
                K_cam=A_img @ spec.K_cam,
                T_ego_cam=spec.T_ego_cam,
                timestamp_us=int(path.stem.rpartition("__")[2]),
            )
        )
    if not cameras:
        raise DatasetError(f"no picture of key frame {key_frame.token} lies below {root}; give the folder of samples/")
    nothing = float("nan")
    return Frame(
        token=key_frame.token,
        scene_name=key_frame.scene,
        timestamp_us=cameras[0].timestamp_us,
        cameras=tuple(cameras),
        lidar=None,
        ego=EgoState(
            T_global_ego=np.eye(4), speed_mps=nothing, acceleration_mps2=nothing, yaw_rate_radps=nothing
        ),
        location="unknown",
    )  # fmt: skip


def annotated_belief(key_frame: KeyFrame) -> Belief:
    """What the annotators named, as a belief: an upper bound. Where objects are is estimated from their 2D boxes.

    Only key objects are annotated: answers about all objects of a direction remain poor.
    """
    specs = {spec.name: spec for spec in NUSCENES_CAMERAS}
    things = []
    for written, said in key_frame.objects.items():
        (reference,) = references_in(written)
        left, top, right, bottom = (float(edge) for edge in said["2d_bbox"])
        name = _class_of(said)
        rectangle = (left, top, right, bottom)
        things.append(
            Thing(
                number=0,
                name=name,
                row=_row(name, rectangle, specs[reference.camera]),
                score=1.0,
                attribute={"Moving": "vehicle.moving", "Stationary": "vehicle.stopped"}.get(
                    said.get("Status") or "", ""
                ),
                views={reference.camera: _around((reference.u, reference.v), rectangle)},
                said=_plain(said.get("Visual_description") or ""),
            )
        )
    return Belief(token=key_frame.token, source="annotations", things=numbered(things), picture_size=NATIVE)


def _class_of(said: Mapping[str, Any]) -> str:
    words = (said.get("Visual_description") or "").lower()
    if said.get("Category") == "Traffic element":
        return "traffic_light" if "light" in words else "traffic_sign"
    word = class_word(words)
    return CLASS_WORDS[word][0] if word else "car"


def _plain(words: str) -> str:
    """As "White SUV." -> "white SUV"."""
    words = words.strip().rstrip(".")
    return words[:1].lower() + words[1:]


def _around(middle: tuple[float, float], rectangle: Rectangle) -> Rectangle:
    """A rectangle of the same size with the annotated middle, which is rounded differently from the box."""
    half_u, half_v = (rectangle[2] - rectangle[0]) / 2, (rectangle[3] - rectangle[1]) / 2
    return middle[0] - half_u, middle[1] - half_v, middle[0] + half_u, middle[1] + half_v


def _row(name: str, rectangle: Rectangle, spec: CameraSpec) -> np.ndarray:
    """A box on the ground where the ray through the middle of the lower edge meets it; signs at a fixed distance."""
    pixel = np.array([(rectangle[0] + rectangle[2]) / 2, rectangle[3], 1.0])
    ray = spec.T_ego_cam[:3, :3] @ np.linalg.inv(spec.K_cam) @ pixel
    origin = spec.T_ego_cam[:3, 3]
    flat = ray[:2] / np.linalg.norm(ray[:2])
    along = origin[2] / -ray[2] * np.linalg.norm(ray[:2]) if ray[2] < 0 else _FAR_M
    distance = _SIGN_M if name.startswith("traffic") else float(np.clip(along, _NEAR_M, _FAR_M))
    x, y = origin[:2] + flat * distance
    length, width, height = _SIZE_LWH.get(name, (1.0, 1.0, 2.0))
    nothing = float("nan")
    return np.array([x, y, height / 2, length, width, height, 0.0, nothing, nothing], np.float32)

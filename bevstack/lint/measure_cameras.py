"""What a batch made from the probe says about its path's pictures and calibrations."""

import numpy as np
from torch import Tensor

from bevstack.data.class_names import CAMERA_NAMES
from bevstack.lint import probe
from bevstack.lint.card import Fact, Value
from bevstack.types.batch import Batch

_FLAT = 3.0
"""Largest deviation of values that are one value, after JPEG."""
_FOLLOWS = 0.01
"""By how much of the picture a camera matrix may be off: ten rows of nine hundred."""
_SAME_PLACE_M = 0.03


def measure_cameras(batch: Batch) -> dict[str, Fact | None]:
    """Facts of the cameras of a batch of one frame; None where it has none."""
    present = [int(n) for n in np.flatnonzero(batch.camera_mask[0].numpy())]
    if not present:
        absent = ("image_size", "crop", "channel_order", "ego", "axes")
        return {"camera_order": {"pictures": "none"}, **dict.fromkeys(absent)}
    pictures = [_picture(batch.images[0, n]) for n in present]
    roles = [_roles(picture) for picture in pictures]
    names = [_camera_of(*pair) for pair in zip(pictures, roles, strict=True)]
    poses = [batch.T_ego_cam[0, n].numpy().astype(np.float64) for n in present]
    mounted = [_mounted_as(pose) for pose in poses]
    crops = [
        _crop(picture, role, batch.K_cam[0, n].numpy().astype(np.float64))
        for picture, role, n in zip(pictures, roles, present, strict=True)
    ]
    return {
        "camera_order": {"pictures": ", ".join(names), "calibrations": ", ".join(name for name, _ in mounted)},
        "image_size": {"height": float(pictures[0].shape[1]), "width": float(pictures[0].shape[2])},
        "crop": _common_crop(crops),
        "channel_order": {"": _common(roles)},
        "ego": {"cameras": _common([motion for _, motion in mounted])},
        "axes": _front_axis(names, poses),
    }


def _front_axis(names: list[str], poses: list[np.ndarray]) -> Fact | None:
    """Where the optical axis of the camera points whose picture is that of the front."""
    if "CAM_FRONT" not in names:
        return None
    axis = poses[names.index("CAM_FRONT")][:3, 2]
    k = int(np.argmax(np.abs(axis)))
    return {"front camera looks along": f"{'-' if axis[k] < 0 else ''}{'xyz'[k]}"}


def _common_crop(crops: list[Fact]) -> Fact:
    """The crop of the first camera, and whether the others have it too."""
    first = crops[0]
    alike = all(crop.keys() == first.keys() and _is_close(crop, first) for crop in crops)
    return {**first, "other cameras": "alike" if alike else "cropped otherwise, or with another matrix"}


def _is_close(a: Fact, b: Fact) -> bool:
    return all(abs(v - b[k]) < _FOLLOWS if isinstance(v, float) else v == b[k] for k, v in a.items())  # type: ignore[operator]


def _picture(image: Tensor) -> np.ndarray:
    return image.numpy().astype(np.float64)


def _roles(picture: np.ndarray) -> str:
    """Which colour of the probe each channel carries, such as RGB or BGR; ? for none of them."""
    roles = ""
    for channel in picture:
        down, across = np.ptp(channel.mean(axis=1)), np.ptp(channel.mean(axis=0))
        if max(down, across) < _FLAT:
            roles += "R"
        else:
            roles += "G" if down > 4 * across else "B" if across > 4 * down else "?"
    return roles


def _camera_of(picture: np.ndarray, roles: str) -> str:
    if "R" not in roles:
        return "?"
    value = float(picture[roles.index("R")].mean())
    name, code = min(probe.CAMERA_CODE.items(), key=lambda item: abs(item[1] - value))
    return name if abs(code - value) < 15 else "?"


def _crop(picture: np.ndarray, roles: str, K_cam: np.ndarray) -> Fact:
    """Which part of the original picture is there, in shares of it, and whether the camera matrix says the same."""
    if sorted(roles) != ["B", "G", "R"]:
        return {"": "not to be measured: the colours of the picture are not the original ones"}
    shown: dict[str, Value] = {}
    A_img = K_cam @ np.linalg.inv(probe.K_CAM)
    worst = 0.0
    sides = (("B", probe.PICTURE_WIDTH, "columns"), ("G", probe.PICTURE_HEIGHT, "rows"))
    for row, (role, full, word) in enumerate(sides):
        along = picture[roles.index(role)].mean(axis=0 if role == "B" else 1)
        source = (along - probe.RAMP[0]) / (probe.RAMP[1] - probe.RAMP[0]) * (full - 1)
        slope, first = np.polyfit(np.arange(len(source)), source, 1)
        edges = np.array([first - 0.5 * slope, first + (len(source) - 0.5) * slope])
        said = (np.array([-0.5, len(source) - 0.5]) - A_img[row, 2]) / A_img[row, row]
        shown[f"{word} from"], shown[f"{word} to"] = ((edges + 0.5) / full).round(4).tolist()
        worst = max(worst, float(np.abs(edges - said).max() / full))
    shown["camera matrix"] = "follows" if worst < _FOLLOWS else f"is off by {worst:.1%} of the picture"
    return shown


def _mounted_as(T_ego_cam: np.ndarray) -> tuple[str, str]:
    """(camera whose mounting this is, whether the ego motion since its exposure is in it)."""
    turned = {name: np.abs(T_ego_cam[:3, :3] - probe.T_ego_mounted(name)[:3, :3]).sum() for name in CAMERA_NAMES}
    best = min(CAMERA_NAMES, key=turned.__getitem__)
    moved = float(np.linalg.norm(T_ego_cam[:3, 3] - probe.T_ego_camera(best)[:3, 3]))
    fixed = float(np.linalg.norm(T_ego_cam[:3, 3] - probe.T_ego_mounted(best)[:3, 3]))
    if moved < _SAME_PLACE_M:
        return best, "compensated"
    return best, "not compensated" if fixed < _SAME_PLACE_M else f"off by {moved:.2f} m"


def _common(words: list[str]) -> str:
    return words[0] if len(set(words)) == 1 else "; ".join(dict.fromkeys(words))

"""What every captioner offers, and which ones there are by name."""

from typing import Protocol, runtime_checkable

from bevstack.types.frame import CameraImage, Frame

FRONT = ("CAM_FRONT",)
FRONT_THREE = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")

VIEW_OF_CAMERA = {
    "CAM_FRONT": "ahead",
    "CAM_FRONT_LEFT": "ahead on the left",
    "CAM_FRONT_RIGHT": "ahead on the right",
    "CAM_BACK": "behind",
    "CAM_BACK_LEFT": "behind on the left",
    "CAM_BACK_RIGHT": "behind on the right",
}
"""Where each camera looks, as a driver says it."""


@runtime_checkable
class Captioner(Protocol):
    """Says in words what a driver would attend to in a frame."""

    name: str
    """Model, as the cache names it."""
    prompt_version: str
    """Of the questions that it is asked; `prompts.NO_PROMPTS` where there are none."""
    cameras: tuple[str, ...]
    """The cameras whose pictures it looks at."""

    def caption(self, frame: Frame) -> str:
        """Its words about the frame, unchecked; "" where it has nothing to say."""


def pictures_of(frame: Frame, cameras: tuple[str, ...]) -> tuple[CameraImage, ...]:
    """The pictures of these cameras that the frame has, in this order."""
    by_name = {camera.name: camera for camera in frame.cameras}
    return tuple(by_name[name] for name in cameras if name in by_name)

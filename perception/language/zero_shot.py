"""The offline captioner: which of a fixed list of statements fit a picture, by an ImageNet classifier and word meaning.

A picture becomes the mean of the embeddings of its likeliest ImageNet class names, weighted by their probability
(Norouzi et al., ConSE, ICLR 2014); a statement fits by the cosine between its embedding and that. Classifier and
sentence encoder come inside packages: nothing is downloaded. What this is worth is in `docs/cues.md`: it names the
thing that fills the picture, it cannot count, and it knows neither distances nor pedestrians (ImageNet has no class of
people).

Letters: P pictures, S statements.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from bevstack.perception.language.captioner import FRONT_THREE, VIEW_OF_CAMERA, pictures_of
from bevstack.perception.language.efficientnet_lite import INPUT_PX, imagenet_classifier
from bevstack.perception.language.imagenet_names import imagenet_names
from bevstack.perception.language.minilm import SentenceEncoder
from bevstack.types.frame import CameraImage, Frame

STATEMENTS = (
    "a truck on the road",
    "traffic on a city street",
    "a parked car",
    "a bus on the road",
    "a bicycle on the road",
    "a motorcycle on the road",
    "a pedestrian on the street",
    "a traffic light at an intersection",
    "a road sign",
    "a road work zone with barriers",
    "an empty road",
    "a building beside the road",
    "a tree beside the road",
    "a fence or a wall",
)
"""What may be said, and nothing else."""

STATEMENTS_VERSION = "statements-1"
"""Travels with the cues; another list gets another version."""

FOREIGN = ("a kitchen", "a dog", "food on a plate", "a portrait of a person", "a musical instrument")
"""What no street shows: a statement must fit clearly better than all of these."""

NUM_CLASSES_MIXED = 20
MIN_FIT = 0.42
MIN_LEAD = 0.08
"""Over the best foreign statement."""
MAX_PER_CAMERA = 2
_MAX_BEHIND_BEST = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFit:
    """How well one statement fits one picture."""

    statement: str
    cosine: float


class ZeroShotCaptioner:
    """Says of each picture which statements fit it. A `Captioner`; needs no network.

    Args:
        cameras: whose pictures are looked at.
        max_per_camera: at most this many statements a picture.
        device: where the networks run.

    Raises:
        DatasetError: a weights package is not installed.
        ValueError: an argument is out of range.
    """

    name = "zero-shot:efficientnet-lite0+all-MiniLM-L6-v2"
    prompt_version = STATEMENTS_VERSION

    def __init__(
        self, *, cameras: tuple[str, ...] = FRONT_THREE, max_per_camera: int = MAX_PER_CAMERA, device: str = "cpu"
    ) -> None:
        if max_per_camera < 1:
            raise ValueError(f"max_per_camera={max_per_camera} must be at least 1")
        self.cameras, self.max_per_camera = tuple(cameras), max_per_camera
        self._device = torch.device(device)
        self._classifier = imagenet_classifier().to(self._device)
        encoder = SentenceEncoder(device=device)
        self._class_embeddings = encoder.encode(imagenet_names())
        self._statement_embeddings = encoder.encode((*STATEMENTS, *FOREIGN))

    def caption(self, frame: Frame) -> str:
        """One sentence for each statement that fits a camera's picture; "" where none does."""
        pictures = pictures_of(frame, self.cameras)
        sentences = []
        for picture, fits in zip(pictures, self.fits(pictures), strict=True):
            view = VIEW_OF_CAMERA.get(picture.name, picture.name)
            sentences += [f"{view[0].upper()}{view[1:]} there is {text}." for text in self._chosen(fits)]
        return " ".join(sentences)

    def fits(self, pictures: tuple[CameraImage, ...]) -> list[list[StatementFit]]:
        """For each picture every statement, the foreign ones too, best first."""
        if not pictures:
            return []
        cosines = self._cosines(np.stack([view for picture in pictures for view in _views(picture.rgb)]))
        names = (*STATEMENTS, *FOREIGN)
        return [[StatementFit(statement=names[i], cosine=float(row[i])) for i in np.argsort(-row)] for row in cosines]

    def _chosen(self, fits: list[StatementFit]) -> list[str]:
        foreign = max(fit.cosine for fit in fits if fit.statement in FOREIGN)
        best = fits[0].cosine
        floor = max(MIN_FIT, foreign + MIN_LEAD, best - _MAX_BEHIND_BEST)
        return [fit.statement for fit in fits if fit.cosine >= floor][: self.max_per_camera]

    @torch.inference_mode()
    def _cosines(self, views: UInt8[np.ndarray, "V H W 3"]) -> Float[np.ndarray, "P S"]:
        """Two views make one picture: their probabilities are averaged."""
        pixels = torch.from_numpy(views).permute(0, 3, 1, 2).to(self._device)
        probabilities = self._classifier(pixels).softmax(dim=-1).unflatten(0, (-1, 2)).mean(dim=1).cpu().numpy()
        likeliest = np.argsort(-probabilities, axis=1)[:, :NUM_CLASSES_MIXED]
        weights = np.take_along_axis(probabilities, likeliest, axis=1)
        meaning = np.einsum("pk,pke->pe", weights, self._class_embeddings[likeliest])
        meaning /= np.linalg.norm(meaning, axis=1, keepdims=True)
        return meaning @ self._statement_embeddings.T


def _views(rgb: UInt8[np.ndarray, "H W 3"]) -> tuple[np.ndarray, np.ndarray]:
    """The whole picture squeezed to a square, and the square in its middle."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = rgb[top : top + side, left : left + side]
    whole, centre = (cv2.resize(part, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA) for part in (rgb, middle))
    return whole, centre

"""Map masks of a frame, drawn from the vector map around the pose that the frame has now.

A world augmentation moves the whole scene, and with it `T_global_ego` (see `augment`). Drawn after it, the masks fit
boxes, points and occupancy under rotation, scale, mirrors and translation alike: the map is drawn once, sharply, and no
mask is ever resampled.
"""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bevstack.data.maps import MAP_CLASSES, Compat, Method, VectorMap, map_of_location
from bevstack.types.bev import BevGrid
from bevstack.types.errors import DatasetError
from bevstack.types.frame import Frame, MapMasks

_LOG = logging.getLogger(__name__)


class MapLabeller:
    """Fills `annotations.map_masks` of annotated frames, for the classes of `MAP_CLASSES`. A `Labeller`.

    Args:
        root: folder of the data set; maps are in its `maps/expansion/`.
        grid: where the masks lie, in `ego`.
        method: "fast", or "exact" which clips like the devkit; see `bevstack.data.maps`.
        compat: "correct" for learning; "devkit" draws with the flaws of the devkit, for figures to compare.
        missing: what to do where a location has no map, or its map lacks a layer. "error" names both; "mask" leaves the
            masks of its frames out, and says so in the log.

    Raises:
        ValueError: an option is none of these.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        grid: BevGrid,
        method: Method = "fast",
        compat: Compat = "correct",
        missing: Literal["error", "mask"] = "error",
    ) -> None:
        for name, value, choices in (
            ("method", method, ("fast", "exact")),
            ("compat", compat, ("correct", "devkit")),
            ("missing", missing, ("error", "mask")),
        ):
            if value not in choices:
                raise ValueError(f"{name}='{value}' must be one of {', '.join(choices)}")
        self.root, self.grid = Path(root), grid
        self.method, self.compat, self.missing = method, compat, missing
        self.num_missing: Counter[str] = Counter()
        """Frames left without masks so far, by location (of this process: workers count for themselves)."""

    def __call__(self, frame: Frame) -> Frame:
        """The frame with masks; without annotations it stays as it is.

        Raises:
            DatasetError: there is no usable map of the frame's location, or it lacks a layer.
        """
        if frame.annotations is None:
            return frame
        try:
            vector_map = self._map(frame.location)
        except DatasetError as error:
            if self.missing == "error":
                raise
            self._report_missing(frame, error)
            return replace(frame, annotations=replace(frame.annotations, map_masks=None))
        masks = vector_map.raster(self.grid, frame.ego.T_global_ego, method=self.method, compat=self.compat)
        labels = MapMasks(masks=masks, grid=self.grid)
        return replace(frame, annotations=replace(frame.annotations, map_masks=labels))

    def _map(self, location: str) -> VectorMap:
        vector_map = map_of_location(self.root, location)
        lacking = [layer for layers in MAP_CLASSES.values() for layer in layers if layer not in vector_map.layer_names]
        if lacking:
            raise DatasetError(
                f"the map of {location} below {self.root / 'maps' / 'expansion'} has no layer {', '.join(lacking)}: "
                "unpack nuScenes-map-expansion-v1.3.zip again, or leave its frames without masks (missing=mask)"
            )
        return vector_map

    def _report_missing(self, frame: Frame, error: DatasetError) -> None:
        self.num_missing[frame.location] += 1
        count = self.num_missing[frame.location]
        if count & (count - 1) == 0:  # 1, 2, 4, 8, ...
            _LOG.warning("frame %s has no map masks (%s): %d so far at %s", frame.token, error, count, frame.location)

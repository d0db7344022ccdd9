"""What became of predicted tracks, scene by scene, as tables of whole numbers that add up: the base of every figure.

The official figures need the counts at 40 lowest scores, and these scores depend on all scenes together. But the counts
of one scene only change where the lowest score passes the score of one of its tracks. So a scene is described for good
by one row for each of these steps. Records of different scenes, made on different machines, are put side by side
(`TrackingRecords.merge`), and scenes can be drawn again or left out, without following a track anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.evaluation.predictions.box_records import TRACKING_CLASSES
from bevstack.evaluation.tracking.matching import COUNTS, ClassTracks, count_matches, match_scores
from bevstack.evaluation.tracking.rules import MIN_RECALL, NUM_RECALLS
from bevstack.evaluation.tracking.tracks import SceneTracks


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRecords:
    """One class in C scenes."""

    num_boxes: Int64[np.ndarray, " C"]
    """Annotated boxes that count, with those put into gaps."""
    num_tracks: Int64[np.ndarray, " C"]
    """Annotated objects."""
    match_score: Float64[np.ndarray, " M"]
    """Scores of the boxes that match when all predictions take part."""
    match_scene: Int64[np.ndarray, " M"]
    level_first: Int64[np.ndarray, " C+1"]
    level_score: Float64[np.ndarray, " L"]
    """Scores of the tracks of each scene, ascending, each once."""
    counts: Int64[np.ndarray, "L+C 10"]
    """For each scene a row for each of its scores, with the predictions of at least this score, and a last row without
    any prediction. Columns: `COUNTS`."""
    distance_m: Float64[np.ndarray, " L+C"]
    """Distances of all pairs, added up."""
    is_known: Bool[np.ndarray, " L+C"]
    """Whether the row has been made."""

    def rows_at(self, thresholds: Float64[np.ndarray, " T"]) -> Int64[np.ndarray, "C T"]:
        """Row of each scene with the predictions of at least some score."""
        first = self.level_first.tolist()
        rows = np.empty((len(first) - 1, len(thresholds)), np.int64)
        for scene, (start, stop) in enumerate(zip(first[:-1], first[1:], strict=True)):
            rows[scene] = start + scene + np.searchsorted(self.level_score[start:stop], thresholds)
        return rows

    def totals(
        self, thresholds: Float64[np.ndarray, " T"], weight: Int64[np.ndarray, " C"]
    ) -> tuple[Int64[np.ndarray, "T 10"], Float64[np.ndarray, " T"]]:
        """Counts and distances of all scenes, each taken as often as its weight says.

        Raises:
            ValueError: the rows have not been made.
        """
        drawn = np.flatnonzero(weight)
        rows = self.rows_at(thresholds)[drawn]
        if not self.is_known[rows].all():
            raise ValueError(
                "these records hold the steps of the official figures only; make them with all_steps=True to merge "
                "them or to draw scenes again"
            )
        counts = np.einsum("c,ctk->tk", weight[drawn], self.counts[rows])
        return counts, weight[drawn].astype(np.float64) @ self.distance_m[rows]

    def thresholds(self, weight: Int64[np.ndarray, " C"]) -> Float64[np.ndarray, " 40"]:
        """Lowest score of the predictions at each of `hypothetical_recalls`; NaN where it is not reached.

        Raises:
            ValueError: more boxes match than there are, since tracks share an identity.
        """
        num_boxes = int(self.num_boxes @ weight)
        scores = np.sort(np.repeat(self.match_score, weight[self.match_scene]))[::-1]
        if num_boxes == 0 or len(scores) == 0:
            return np.full(NUM_RECALLS, np.nan)
        if len(scores) > num_boxes:
            raise ValueError(
                f"{len(scores)} boxes match {num_boxes} annotated ones: a tracking_id occurs twice in some sample; "
                "boxes of a sample need different identities"
            )
        reached = np.arange(1, len(scores) + 1) / num_boxes
        recalls = hypothetical_recalls()
        thresholds = np.interp(recalls, reached, scores, right=0)
        thresholds[recalls > reached.max()] = np.nan
        return thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingRecords:
    """All classes in C scenes."""

    scene_tokens: tuple[str, ...]
    num_frames: Int64[np.ndarray, " C"]
    num_predictions: int
    classes: dict[str, ClassRecords]
    """In the order of `TRACKING_CLASSES`."""

    @classmethod
    def merge(cls, parts: Sequence["TrackingRecords"]) -> "TrackingRecords":
        """Records of different scenes in one. Merged in the order of the whole, they give what the whole gives.

        Raises:
            ValueError: there is no part, or two of them hold the same scene.
        """
        tokens = tuple(token for part in parts for token in part.scene_tokens)
        twice = next((token for place, token in enumerate(tokens) if token in tokens[:place]), None)
        if twice is not None:
            raise ValueError(f"scene {twice} is in two of the records; merge records of different scenes")
        if not parts:
            raise ValueError("there are no records to merge; give those of at least one part")
        return cls(
            scene_tokens=tokens,
            num_frames=np.concatenate([part.num_frames for part in parts]),
            num_predictions=sum(part.num_predictions for part in parts),
            classes={name: _merged([part.classes[name] for part in parts]) for name in TRACKING_CLASSES},
        )


def hypothetical_recalls() -> Float64[np.ndarray, " 40"]:
    """The recalls at which the protocol measures, ascending. What is reached at a threshold may differ."""
    return np.linspace(MIN_RECALL, 1, NUM_RECALLS).round(12)


def match_records(scenes: SceneTracks, *, all_steps: bool = False) -> TrackingRecords:
    """Follow all tracks.

    Args:
        scenes: The tracks.
        all_steps: Make the rows of all scores. Otherwise those that the official figures of just these scenes need.
    """
    return TrackingRecords(
        scene_tokens=scenes.scene_tokens,
        num_frames=np.diff(scenes.scene_first),
        num_predictions=scenes.num_predictions,
        classes={name: _class_records(scenes, name, all_steps) for name in TRACKING_CLASSES},
    )


def _class_records(scenes: SceneTracks, name: str, all_steps: bool) -> ClassRecords:
    tracks = ClassTracks.of(scenes, DETECTION_CLASSES.index(name))
    num_scenes = len(scenes.scene_tokens)
    box_first = tracks.first[tracks.scene_first]
    levels = [np.unique(tracks.score[box_first[c] : box_first[c + 1]]) for c in range(num_scenes)]
    level_first = np.array([0, *accumulate(map(len, levels))], np.int64)
    num_rows = int(level_first[-1]) + num_scenes
    scores, scene_of = match_scores(tracks)
    records = ClassRecords(
        num_boxes=np.diff(tracks.truth_first[tracks.scene_first]),
        num_tracks=np.diff(tracks.track_first),
        match_score=scores,
        match_scene=scene_of,
        level_first=level_first,
        level_score=np.concatenate([np.zeros(0), *levels]),
        counts=np.zeros((num_rows, len(COUNTS)), np.int64),
        distance_m=np.zeros(num_rows),
        is_known=np.full(num_rows, all_steps),
    )
    if not all_steps:
        thresholds = records.thresholds(np.ones(num_scenes, np.int64))
        records.is_known[records.rows_at(thresholds[~np.isnan(thresholds)])] = True
    needed = np.flatnonzero(records.is_known)
    lowest = np.concatenate([np.zeros(0), *(np.append(level, np.inf) for level in levels)])
    scene_of_row = np.repeat(np.arange(num_scenes), np.diff(level_first) + 1)
    records.counts[needed], records.distance_m[needed] = count_matches(tracks, scene_of_row[needed], lowest[needed])
    return records


def _merged(parts: Sequence[ClassRecords]) -> ClassRecords:
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ClassRecords.__slots__}
    first_scene = accumulate((len(part.num_boxes) for part in parts), initial=0)
    first_level = accumulate((len(part.level_score) for part in parts), initial=0)
    joined["match_scene"] = np.concatenate(
        [part.match_scene + first for part, first in zip(parts, first_scene, strict=False)]
    )
    starts = [part.level_first[:-1] + first for part, first in zip(parts, first_level, strict=False)]
    joined["level_first"] = np.append(np.concatenate(starts), len(joined["level_score"]))
    return ClassRecords(**joined)

"""Tracks of one class followed through a scene: which box belongs to which object, and the counts that follow from it.

The CLEAR MOT procedure (Bernardin & Stiefelhagen, EURASIP Journal on Image and Video Processing 2008) as py-motmetrics
1.4 carries it out for the devkit. In each frame an object first keeps the track that it had last, if a box of it is
there and near. Objects and boxes that remain are assigned so that most of them pair up, and of such assignments the one
with the smallest sum of distances is taken; an object that had another track before makes an identity switch then.

Frames without an object and a box do not count. The official code solves every frame as one dense matrix; here pairs
that compete with no others are taken at once, and only the rest is solved, as a small matrix. Where that has several
best solutions, the dense matrix decides as it does there.
"""

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float64, Int64

from bevstack.evaluation.tracking.assignment import NONE, assign
from bevstack.evaluation.tracking.distances import MANY_BY_MANY, near_pairs
from bevstack.evaluation.tracking.rules import LOST_SHARE, MATCH_DISTANCE_M, TRACKED_SHARE
from bevstack.evaluation.tracking.tracks import SceneTracks

COUNTS = ("tp", "ids", "fp", "frames", "mt", "ml", "frag", "tracked", "late", "gap")
"""Columns of the table of counts. `tracked`: objects found at least once; `late` and `gap`: samples before they are
first found, and in the longest stretch in which they are not, added up over these objects."""
_TIE_M = 1e-9
"""Assignments whose sums differ by less may be equal."""


class ClassTracks(NamedTuple):
    """Tracks of one class in C scenes with F frames, N annotated and P predicted boxes, as compiled code reads them."""

    scene_first: Int64[np.ndarray, " C+1"]
    """Frames of each scene."""
    truth_first: Int64[np.ndarray, " F+1"]
    """Annotated boxes of each frame."""
    truth_track: Int64[np.ndarray, " N"]
    track_first: Int64[np.ndarray, " C+1"]
    """Annotated tracks of each scene."""
    first: Int64[np.ndarray, " F+1"]
    """Predicted boxes of each frame."""
    track: Int64[np.ndarray, " P"]
    score: Float64[np.ndarray, " P"]
    twin: Int64[np.ndarray, " P"]
    """An earlier box of the same frame and track, -1 for none."""
    pair_first: Int64[np.ndarray, " N+1"]
    """Near pairs of each annotated box, see `near_pairs`."""
    pair_box: Int64[np.ndarray, " E"]
    pair_m: Float64[np.ndarray, "E 3"]

    @classmethod
    def of(cls, scenes: SceneTracks, class_index: int) -> "ClassTracks":
        """The tracks of one class."""
        truth = scenes.truth.take(scenes.truth.class_index == class_index)
        boxes = scenes.predictions.take(scenes.predictions.class_index == class_index)
        frames = np.arange(scenes.scene_first[-1] + 1)
        truth_first, first = np.searchsorted(truth.frame, frames), np.searchsorted(boxes.frame, frames)
        tracks, truth_track = np.unique(truth.track, return_inverse=True)
        start = np.zeros(len(tracks), np.int64)
        start[truth_track[::-1]] = truth.frame[::-1]
        _, track = np.unique(boxes.track, return_inverse=True)
        pair_first, pair_box, pair_m = near_pairs(
            truth_first, np.ascontiguousarray(truth.xy), first, np.ascontiguousarray(boxes.xy)
        )
        return cls(
            scene_first=scenes.scene_first,
            truth_first=truth_first,
            truth_track=truth_track.astype(np.int64),
            track_first=np.searchsorted(start, scenes.scene_first),
            first=first,
            track=track.astype(np.int64),
            score=np.ascontiguousarray(boxes.score),
            twin=_twins(boxes.frame, track),
            pair_first=pair_first,
            pair_box=pair_box,
            pair_m=pair_m,
        )


def _twins(frame: np.ndarray, track: np.ndarray) -> np.ndarray:
    order = np.lexsort((track, frame))
    same = (np.diff(frame[order]) == 0) & (np.diff(track[order]) == 0)
    twin = np.full(len(track), NONE, np.int64)
    twin[order[1:][same]] = order[:-1][same]
    return twin


@numba.njit(cache=True, nogil=True)
def count_matches(tracks, scenes, thresholds):  # type: ignore[no-untyped-def]
    """Counts of some scenes with the predictions of at least some score.

    Args:
        tracks: `ClassTracks`.
        scenes: (T) int64, a scene for each row of the result.
        thresholds: (T) float64, the lowest score of predictions.

    Returns:
        (T, 10) int64 with the columns `COUNTS`, and (T) float64: the distances of all pairs in metres, added up.
    """
    counts, distances = np.zeros((len(scenes), 10), np.int64), np.empty(len(scenes))
    last = np.empty(tracks.track_first[-1], np.int64)
    partner, is_switch = np.empty(len(tracks.truth_track), np.int64), np.empty(len(tracks.truth_track), np.bool_)
    is_free = np.empty(len(tracks.track), np.bool_)
    for row in range(len(scenes)):
        frames, visible, distances[row] = _follow(
            tracks, scenes[row], thresholds[row], last, partner, is_switch, is_free
        )
        _count(tracks, scenes[row], frames, visible, partner, is_switch, counts[row])
    return counts, distances


@numba.njit(cache=True, nogil=True)
def match_scores(tracks):  # type: ignore[no-untyped-def]
    """Scores of the boxes that match when all predictions take part: (M) float64, and the scene of each, (M) int64.

    A box that makes an identity switch does not count as a match here. Where a frame has a track twice, both boxes
    count if one of them matches, as in the official code.
    """
    scores, scene_of = np.empty(len(tracks.track)), np.empty(len(tracks.track), np.int64)
    num_scores = 0
    last = np.empty(tracks.track_first[-1], np.int64)
    partner, is_switch = np.empty(len(tracks.truth_track), np.int64), np.empty(len(tracks.truth_track), np.bool_)
    is_free = np.empty(len(tracks.track), np.bool_)
    seen_in = np.full(len(tracks.track), NONE)
    for scene in range(len(tracks.scene_first) - 1):
        _follow(tracks, scene, -np.inf, last, partner, is_switch, is_free)
        for frame in range(tracks.scene_first[scene], tracks.scene_first[scene + 1]):
            for row in range(tracks.truth_first[frame], tracks.truth_first[frame + 1]):
                if partner[row] != NONE and not is_switch[row]:
                    seen_in[tracks.track[partner[row]]] = frame
            for box in range(tracks.first[frame], tracks.first[frame + 1]):
                if seen_in[tracks.track[box]] == frame:
                    scores[num_scores], scene_of[num_scores] = tracks.score[box], scene
                    num_scores += 1
    return scores[:num_scores], scene_of[:num_scores]


@numba.njit(cache=True, nogil=True)
def _follow(tracks, scene, threshold, last, partner, is_switch, is_free):  # type: ignore[no-untyped-def]
    """Find the partner of each annotated box of a scene: number of frames, of predictions, and sum of distances."""
    frames, num_visible, distance = 0, 0, 0.0
    last[tracks.track_first[scene] : tracks.track_first[scene + 1]] = NONE
    for frame in range(tracks.scene_first[scene], tracks.scene_first[scene + 1]):
        begin, end = tracks.truth_first[frame], tracks.truth_first[frame + 1]
        visible = 0
        for box in range(tracks.first[frame], tracks.first[frame + 1]):
            is_free[box] = tracks.score[box] >= threshold
            visible += is_free[box]
        frames += begin < end or visible > 0
        num_visible += visible
        partner[begin:end] = NONE
        if begin == end or visible == 0:
            continue
        kind = MANY_BY_MANY - (end - begin == 1) - (visible == 1)
        distance += _keep_partners(tracks, begin, end, kind, last, is_free, partner)
        distance += _find_partners(tracks, frame, threshold, kind, is_free, partner)
        for row in range(begin, end):
            if partner[row] != NONE:
                track, owner = tracks.track[partner[row]], tracks.truth_track[row]
                is_switch[row] = last[owner] != NONE and last[owner] != track
                last[owner] = track
    return frames, num_visible, distance


@numba.njit(cache=True, nogil=True)
def _keep_partners(tracks, begin, end, kind, last, is_free, partner):  # type: ignore[no-untyped-def]
    """Give objects a box of the track that they had last, if it is near: the sum of distances."""
    distance = 0.0
    for row in range(begin, end):
        kept = last[tracks.truth_track[row]]
        if kept == NONE:
            continue
        for pair in range(tracks.pair_first[row], tracks.pair_first[row + 1]):
            box = tracks.pair_box[pair]
            if tracks.track[box] == kept and is_free[box]:
                # Only the first free box of the track is looked at, also where that one is farther away.
                twin = tracks.twin[box]
                while twin != NONE and not is_free[twin]:
                    twin = tracks.twin[twin]
                if twin == NONE and tracks.pair_m[pair, kind] < MATCH_DISTANCE_M:
                    partner[row], is_free[box] = box, False
                    distance += tracks.pair_m[pair, kind]
                break
    return distance


@numba.njit(cache=True, nogil=True)
def _find_partners(tracks, frame, threshold, kind, is_free, partner):  # type: ignore[no-untyped-def]
    """Assign free boxes to objects without one: the sum of distances."""
    begin, end = tracks.truth_first[frame], tracks.truth_first[frame + 1]
    first, stop = tracks.first[frame], tracks.first[frame + 1]
    num_near, num_rivals = _count_rivals(tracks, begin, end, first, stop, kind, is_free, partner)
    if not num_near.any():
        return 0.0
    lone = np.full(end - begin, NONE)
    for i in range(end - begin):
        if num_near[i] == 1:
            for pair in range(tracks.pair_first[begin + i], tracks.pair_first[begin + i + 1]):
                box = tracks.pair_box[pair]
                is_near = is_free[box] and tracks.pair_m[pair, kind] < MATCH_DISTANCE_M
                if is_near and num_rivals[box - first] == 1:
                    lone[i], num_near[i], num_rivals[box - first] = box, 0, 0
    if num_near.any():
        rows, boxes = np.flatnonzero(num_near) + begin, np.flatnonzero(num_rivals) + first
        cost = _costs(tracks, rows, boxes, kind, is_free, partner)
        column_of, has_ties = _solve(cost)
        if has_ties:
            lone[:] = NONE
            rows = np.arange(begin, end)
            boxes = np.flatnonzero(tracks.score[first:stop] >= threshold) + first
            cost = _costs(tracks, rows, boxes, kind, is_free, partner)
            column_of, _ = _solve(cost)
        for i in range(len(rows)):
            if column_of[i] != NONE:
                lone[rows[i] - begin] = boxes[column_of[i]]
    distance = 0.0
    for row in range(begin, end):
        box = lone[row - begin]
        if box != NONE:
            partner[row], is_free[box] = box, False
            for pair in range(tracks.pair_first[row], tracks.pair_first[row + 1]):
                if tracks.pair_box[pair] == box:
                    distance += tracks.pair_m[pair, kind]
    return distance


@numba.njit(cache=True, nogil=True)
def _count_rivals(tracks, begin, end, first, stop, kind, is_free, partner):  # type: ignore[no-untyped-def]
    """How many free boxes are near each object without a partner, and how many such objects near each box."""
    num_near, num_rivals = np.zeros(end - begin, np.int64), np.zeros(stop - first, np.int64)
    for row in range(begin, end):
        if partner[row] == NONE:
            for pair in range(tracks.pair_first[row], tracks.pair_first[row + 1]):
                box = tracks.pair_box[pair]
                if is_free[box] and tracks.pair_m[pair, kind] < MATCH_DISTANCE_M:
                    num_near[row - begin] += 1
                    num_rivals[box - first] += 1
    return num_near, num_rivals


@numba.njit(cache=True, nogil=True)
def _costs(tracks, rows, boxes, kind, is_free, partner):  # type: ignore[no-untyped-def]
    """Distances of objects and boxes that may be assigned to each other; infinite for all other pairs."""
    cost = np.full((len(rows), len(boxes)), np.inf)
    for i in range(len(rows)):
        if partner[rows[i]] == NONE:
            column = 0
            for pair in range(tracks.pair_first[rows[i]], tracks.pair_first[rows[i] + 1]):
                box = tracks.pair_box[pair]
                if is_free[box] and tracks.pair_m[pair, kind] < MATCH_DISTANCE_M:
                    while column < len(boxes) and boxes[column] < box:
                        column += 1
                    if column < len(boxes) and boxes[column] == box:
                        cost[i, column] = tracks.pair_m[pair, kind]
    return cost


@numba.njit(cache=True, nogil=True)
def _solve(cost):  # type: ignore[no-untyped-def]
    """The column of each row, -1 for none, and whether there may be another solution of the same cost.

    Impossible pairs cost so much that one of them is worse than any number of possible ones.
    """
    dearest, possible = 0.0, 0
    for value in cost.flat:
        if value < np.inf:
            dearest, possible = max(dearest, value), possible + 1
    dense = cost
    if possible < cost.size:
        dense = np.where(cost < np.inf, cost, 2 * min(cost.shape) * (dearest + 1) + 1)
    column_of, row_dual, column_dual = assign(dense)
    has_ties = False
    for i in range(len(cost)):
        for j in range(cost.shape[1]):
            # Another solution would consist of pairs whose cost is the sum of their duals.
            spare = cost[i, j] - row_dual[i] - column_dual[j]
            has_ties |= column_of[i] != j and spare < _TIE_M
        if column_of[i] != NONE and cost[i, column_of[i]] == np.inf:
            column_of[i] = NONE
    return column_of, has_ties


@numba.njit(cache=True, nogil=True)
def _count(tracks, scene, frames, visible, partner, is_switch, counts):  # type: ignore[no-untyped-def]
    """Fill one row of the table of counts from the partners that were found."""
    start, stop = tracks.track_first[scene], tracks.track_first[scene + 1]
    table = np.zeros((5, stop - start), np.int64)
    seen, found, late, gap, longest = table[0], table[1], table[2], table[3], table[4]
    tp = ids = frag = 0
    begin = tracks.truth_first[tracks.scene_first[scene]]
    for row in range(begin, tracks.truth_first[tracks.scene_first[scene + 1]]):
        track = tracks.truth_track[row] - start
        seen[track] += 1
        if partner[row] == NONE:
            gap[track] += 1
            continue
        if found[track] == 0:
            late[track] = gap[track]
        else:
            frag += gap[track] > 0
        longest[track] = max(longest[track], gap[track])
        gap[track] = 0
        found[track] += 1
        ids += is_switch[row]
        tp += not is_switch[row]
    mt = ml = tracked = sum_late = sum_gap = 0
    for track in range(stop - start):
        share = found[track] / seen[track]
        mt += share >= TRACKED_SHARE
        ml += share < LOST_SHARE
        if found[track] > 0:
            tracked += 1
            sum_late += late[track]
            sum_gap += max(longest[track], gap[track])
    counts[:] = (tp, ids, visible - tp - ids, frames, mt, ml, frag, tracked, sum_late, sum_gap)

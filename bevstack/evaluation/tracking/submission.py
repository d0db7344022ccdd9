"""The official tracking submission: boxes with identities as the JSON file that the benchmark takes."""

from pathlib import Path

import numpy as np

from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.box_records import MAX_BOXES_PER_SAMPLE
from bevstack.evaluation.predictions.submission import SubmissionMeta, write_submission
from bevstack.evaluation.tracking.tracks import check_tracks, second_of_pair


def write_tracking_submission(path: str | Path, meta: SubmissionMeta, boxes: BoxColumns) -> Path:
    """Write the file, complete or not at all. An unknown velocity is written as 0.

    Args:
        path: The JSON file.
        meta: Which inputs the tracks rest on.
        boxes: Boxes with identities, of all samples of a split.

    Raises:
        ValueError: a box lacks an identity, is of a class that is not tracked or not finite, a sample has more than 500
            boxes, or two boxes of a sample have one identity.
        OSError: the disk is full or the folder cannot be written.
    """
    check_tracks(boxes)
    counts = np.diff(boxes.sample_first)
    if (counts > MAX_BOXES_PER_SAMPLE).any():
        most = int(np.argmax(counts))
        raise ValueError(
            f"sample {boxes.sample_tokens[most]} has {counts[most]} boxes; the protocol allows {MAX_BOXES_PER_SAMPLE}, "
            "keep those with the best scores"
        )
    if boxes.track_index is not None:
        double = second_of_pair(boxes.sample_index, boxes.track_index)
        if double is not None:
            raise ValueError(
                f"sample {boxes.sample_tokens[boxes.sample_index[double]]}: tracking_id "
                f"'{boxes.track_ids[boxes.track_index[double]]}' occurs twice; each box needs its own"
            )
    records = boxes.to_records()
    for sample in records.values():
        for record in sample:
            record["velocity"] = [0.0 if np.isnan(part) else part for part in record["velocity"]]
    return write_submission(path, meta, records)

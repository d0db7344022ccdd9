"""The constants of `track/nusc-2020`: the devkit's configuration `tracking_nips_2019`."""

PROTOCOL = "track/nusc-2020"
"""Identity of the protocol; numbers under different identities are not comparable."""

MATCH_DISTANCE_M = 2.0
"""A track's box matches an object whose centre is closer than this on the ground."""
NUM_RECALLS = 40
MIN_RECALL = 0.1
"""The lowest of the recalls at which a tracker is measured; the highest is 1."""
SAMPLE_PERIOD_S = 0.5
"""What the protocol takes for the time between two samples."""

TRACKED_SHARE = 0.8
"""An object is mostly tracked if it is found in this share of its samples."""
LOST_SHARE = 0.2
"""An object is mostly lost if it is found in less than this share of its samples."""

AVERAGED = {"amota": "motar", "amotp": "motp"}
"""Figure that is a mean over all recalls -> the figure at each recall that it averages."""
AT_BEST_MOTA = (
    "recall",
    "motar",
    "gt",
    "mota",
    "motp",
    "mt",
    "ml",
    "faf",
    "tp",
    "fp",
    "fn",
    "ids",
    "frag",
    "tid",
    "lgd",
)
"""Figures that are given at the recall with the best MOTA."""
METRICS = (*AVERAGED, *AT_BEST_MOTA)
SUMMED = ("mt", "ml", "tp", "fp", "fn", "ids", "frag")
"""Figures that are added up over the classes; the others are averaged."""

WORST = {
    "amota": 0.0,
    "amotp": 2.0,
    "recall": 0.0,
    "motar": 0.0,
    "mota": 0.0,
    "motp": 2.0,
    "mt": 0.0,
    "faf": 500.0,
    "tp": 0.0,
    "tid": 20.0,
    "lgd": 20.0,
}
"""Value where no recall is reached; `gt` and `fn` are then the number of boxes, `ml` that of objects."""

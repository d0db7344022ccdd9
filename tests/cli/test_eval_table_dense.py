"""What the printed table says of maps and occupancy, and in which order."""

from typing import Any

from bevstack.cli.eval_table import table


def scores(mean_iou: float, **classes: float | None) -> dict[str, Any]:
    means = {"mean_iou": mean_iou, "mean_iou_of_labelled": mean_iou, "iou": 0.5} if classes else {"mean_iou": mean_iou}
    return {**means, "class_iou": classes or {"car": 0.9}}


def test_the_classes_stand_below_the_means_of_their_own_protocol() -> None:
    first = scores(0.25, car=0.25, bus=None)
    row = {"occupancy": {"occ/occ3d-miou": first, "occ/occ3d-miou-no-mask": scores(0.3), "occ/rayiou": scores(0.4)}}
    data = {"version": "v1.0-tiny", "split": "val", "num_frames": 9, "num_frames_of_split": 9}
    content = {"data": data, "protocols": list(row["occupancy"]), "results": {"mine": row}, "not_scored": {}}
    lines = [line.split() for line in table(content).splitlines() if line]
    words = [line[0] for line in lines[1:]]
    assert words == [
        "occupancy",
        "occ/occ3d-miou",
        "mIoU",
        "IoU",
        "car",
        "bus",
        "nothing",
        "occ/occ3d-miou-no-mask",
        "occ/rayiou",
    ]
    assert lines[5][1] == "0.250" and lines[-1] == ["occ/rayiou", "mIoU", "0.400"]

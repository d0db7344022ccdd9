"""The table at the end of the demo: whatever tasks the weights have."""

from bevstack.cli.demo import summary

BOXES = {"mean_ap": 0.5, "nds": 0.45}
DENSE = {
    "map": {"map/bevfusion-iou": {"mean_iou": 0.61}, "map/iou-fixed-0.5": {"mean_iou": 0.55}},
    "occupancy": {"occ/occ3d-miou": {"mean_iou": None, "iou": 0.7}},
}


def test_weights_with_boxes_alone_show_boxes_alone() -> None:
    lines = summary("shipped", {"fusion": BOXES, "lidar": {"mean_ap": 0.4, "nds": 0.35}}).splitlines()
    assert [line.split() for line in lines] == [
        ["shipped", "mAP", "NDS"],
        ["fusion", "0.500", "0.450"],
        ["lidar", "0.400", "0.350"],
    ]


def test_three_tasks_stand_side_by_side_under_their_leading_protocols() -> None:
    lines = summary("shipped", {"fusion": {**BOXES, **DENSE}}).splitlines()
    assert lines[0].split() == ["shipped", "mAP", "NDS", "map", "mIoU", "occ", "mIoU", "occ", "IoU"]
    assert lines[1].split() == ["fusion", "0.500", "0.450", "0.610", "-", "0.700"]


def test_a_model_without_objects_has_no_columns_of_boxes() -> None:
    lines = summary("control", {"camera": {"map": DENSE["map"]}}).splitlines()
    assert [line.split() for line in lines] == [["control", "map", "mIoU"], ["camera", "0.610"]]

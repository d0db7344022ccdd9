import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.nuscenes_tiny import SCENE, SPLIT, VERSION, Tables, token, write_tiny
from fixtures.real_frame import real_frame_root

from bevstack.cli.main import main
from bevstack.data.check import CheckReport, FileGroup, check_dataset
from bevstack.data.class_names import CAMERA_NAMES
from bevstack.data.images import ImageSize
from bevstack.data.index import open_index
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.stats import dataset_stats
from bevstack.data.view import CLASS_COLORS, draw_boxes_in_camera, draw_frame

OCCUPANCY_GROUPS = ("gts (Occ3D)", "nuScenes-Occupancy-v0.1 (OpenOccupancy)")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny")


def check(root: Path, **options: bool) -> CheckReport:
    return check_dataset(open_index(root), **options)


def group(report: CheckReport, name: str) -> FileGroup:
    return next(group for group in report.groups if group.name == name)


# -- check ------------------------------------------------------------------------------------------------------------
def test_a_complete_data_set_is_usable(tiny: Path) -> None:
    report = check(tiny, deep=True)
    assert report.is_usable and report.complete_scenes == (SCENE,)
    assert group(report, "samples/CAM_FRONT").expected == 2 and group(report, "sweeps/LIDAR_TOP").expected == 9
    assert not group(report, "maps/expansion").needed, "detection works without maps"


@pytest.mark.parametrize(
    "name", ["samples/CAM_BACK/1.jpg", "samples/LIDAR_TOP/0.pcd.bin", "sweeps/LIDAR_TOP/4.pcd.bin"]
)
def test_a_missing_sensor_file_is_counted_in_its_folder(tiny: Path, name: str) -> None:
    (tiny / name).unlink()
    report = check(tiny)
    missing = group(report, name.rpartition("/")[0])
    assert (missing.missing, missing.examples, missing.needed) == (1, (name,), True)
    assert not report.is_usable and report.complete_scenes == ()


@pytest.mark.parametrize(("name", "keep"), [("samples/CAM_BACK/1.jpg", 100), ("sweeps/LIDAR_TOP/4.pcd.bin", 33)])
def test_a_damaged_file_is_found_by_the_deep_check_only(tiny: Path, name: str, keep: int) -> None:
    (tiny / name).write_bytes((tiny / name).read_bytes()[:keep])
    assert check(tiny).is_usable
    report = check(tiny, deep=True)
    assert group(report, name.rpartition("/")[0]).damaged == 1 and not report.is_usable


def test_an_empty_file_is_damage(tiny: Path) -> None:
    (tiny / "sweeps/LIDAR_TOP/4.pcd.bin").write_bytes(b"")
    assert not check(tiny, deep=True).is_usable


def test_a_dangling_link_is_missing(tiny: Path) -> None:
    path = tiny / "samples/CAM_FRONT/0.jpg"
    path.unlink()
    path.symlink_to(tiny / "gone.jpg")
    assert group(check(tiny), "samples/CAM_FRONT").missing == 1


def test_damaged_transforms_and_absent_key_frames_are_problems(tmp_path: Path) -> None:
    def edit(tables: Tables) -> None:
        tables["ego_pose"][0]["translation"] = [float("nan"), 0.0, 0.0]
        tables["sample_data"] = [r for r in tables["sample_data"] if r["filename"] != "samples/CAM_BACK/1.jpg"]

    report = check(write_tiny(tmp_path, edit=edit))
    assert any("ego_pose.json: 1 readings" in problem for problem in report.problems)
    assert any("1 samples have no CAM_BACK key frame" in problem for problem in report.problems)
    assert not report.is_usable


def test_missing_pieces_name_their_archive(tiny: Path) -> None:
    report = check(tiny)
    assert "can_bus.zip" in group(report, "can_bus").archive
    assert "nuScenes-map-expansion-v1.3.zip" in group(report, "maps/expansion").archive
    assert group(report, "maps/expansion").examples == ("maps/expansion/boston-seaport.json",)
    occ3d, openoccupancy = (group(report, name) for name in OCCUPANCY_GROUPS)
    assert occ3d.missing == openoccupancy.missing == 2
    assert "gts.tar.gz" in occ3d.archive and "nuScenes-Occupancy-v0.1.7z" in openoccupancy.archive
    path = f"nuScenes-Occupancy-v0.1/scene_{token('scene')}/occupancy/{token('LIDAR_TOP0')}.npy"
    assert openoccupancy.examples[0] == path and "input.occupancy=null" in openoccupancy.without
    (tiny / path).parent.mkdir(parents=True)
    (tiny / path).write_bytes(b"labels")
    assert group(check(tiny), OCCUPANCY_GROUPS[1]).missing == 1


def test_the_command_exits_with_one_when_something_needed_is_missing(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(tiny)]) == 0
    (tiny / "samples/CAM_BACK/1.jpg").unlink()
    assert main(["data", "check", str(tiny)]) == 1
    text = capsys.readouterr().out
    assert "FAIL  samples/CAM_BACK" in text and "samples/CAM_BACK/1.jpg" in text
    assert main(["data", "check", str(tiny), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["is_usable"] is False and report["num_samples"] == 2


def test_complete_scenes_can_be_written_as_a_split(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tiny), "--write-split", "there"]) == 0
    assert json.loads((tiny / VERSION / "splits.json").read_text()) == {SPLIT: [SCENE], "there": [SCENE]}
    assert len(open_index(tiny).samples_of_split("there")) == 2


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["check", "/nowhere"], "data root /nowhere does not exist"),
        (["stats", "{root}", "--split", "tinny"], "did you mean tiny?"),
        (["index", "{root}", "--version", "v1.0-tyni"], "did you mean v1.0-tiny?"),
        (["view", "{root}", "--index", "7"], "has frames 0 to 1"),
        (["view", "{root}", "--sample", "abc"], "there is no sample abc"),
        (["view", "{root}", "--out", "{root}/frame.xyz"], "ends in .png or .jpg"),
    ],
)
def test_wrong_arguments_give_one_line_and_exit_code_one(
    tiny: Path, capsys: pytest.CaptureFixture[str], words: list[str], cause: str
) -> None:
    assert main(["data", *(word.format(root=tiny) for word in words)]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in error if line.startswith("bevstack data:")]) == 1
    assert cause in error[-1]


def test_the_index_command_says_what_it_found(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "index", str(tiny)]) == 0
    assert "1 scenes, 2 key frames, 23 sensor readings, 4 boxes" in capsys.readouterr().out
    assert main(["data", "index", str(tiny)]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main(["data", "index", str(tiny), "--force"]) == 0
    assert "built in" in capsys.readouterr().out


# -- stats ------------------------------------------------------------------------------------------------------------
def test_the_numbers_of_the_tiny_set_are_counted(tiny: Path) -> None:
    stats = dataset_stats(open_index(tiny), SPLIT)
    car = stats.classes[0]
    assert (stats.num_scenes, stats.num_frames, stats.num_boxes, stats.num_other_boxes) == (1, 2, 4, 1)
    assert (car.boxes, car.instances, car.median_lidar_points) == (2, 1, 27.5)
    assert car.median_size_lwh_m == (4.5, 1.8, 1.6) and car.median_speed_mps == pytest.approx(5.0)
    assert car.distance_histogram == (0, 1, 1, 0, 0, 0), "17.5 m and 20 m"
    assert car.attributes == {"vehicle.moving": 2}
    assert stats.classes[5].boxes_without_points == 1 and stats.classes[9].boxes == 0
    assert stats.distance_m == pytest.approx(5.0) and stats.duration_s == pytest.approx(0.5)
    assert stats.scenes_described_as == {"night": 1, "rain": 0} and stats.sweeps_per_frame == pytest.approx(5.5)


def test_stats_without_annotations_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def edit(tables: Tables) -> None:
        tables["sample_annotation"], tables["instance"] = [], []

    root = write_tiny(tmp_path, edit=edit)
    assert main(["data", "stats", str(root)]) == 0
    capsys.readouterr()
    assert main(["data", "stats", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"][0]["median_lidar_points"] is None


# -- view -------------------------------------------------------------------------------------------------------------
def test_a_box_is_drawn_where_it_projects(tiny: Path) -> None:
    frame = NuScenesFrames(root=tiny, split=SPLIT, image_size=ImageSize(90, 160))[0]
    assert frame.annotations is not None
    camera = frame.cameras[0]
    changed = (draw_boxes_in_camera(camera, frame.annotations.boxes) != camera.rgb).any(axis=2)
    rows, columns = np.nonzero(changed[:, 70:90])
    assert len(rows) and rows.min() >= 43 and rows.max() <= 53, "the car is just under the middle of the picture"
    assert not changed[:, 110:].any(), "nothing to the right"


def test_boxes_around_and_behind_a_camera_do_not_break_the_picture(tiny: Path) -> None:
    frame = NuScenesFrames(root=tiny, split=SPLIT, image_size=ImageSize(90, 160))[0]
    assert frame.annotations is not None
    boxes = frame.annotations.boxes
    rows = boxes.rows.copy()
    rows[0, :3], rows[1, :3] = (0.6, 0.0, 1.5), (-20.0, 0.0, 1.0)
    for camera in frame.cameras:
        assert draw_boxes_in_camera(camera, type(boxes)(rows=rows, class_index=boxes.class_index)).shape == (90, 160, 3)


def test_the_view_command_writes_a_picture_even_of_partial_data(tiny: Path, tmp_path: Path) -> None:
    (tiny / "samples/CAM_BACK/1.jpg").unlink()
    (tiny / "samples/LIDAR_TOP/10.pcd.bin").unlink()
    out = tmp_path / "pictures" / "frame.png"
    assert main(["data", "view", str(tiny), "--sample", token("sample1"), "--out", str(out)]) == 0
    picture = cv2.imread(str(out))
    assert picture is not None and picture.shape[1] == 3 * 704
    assert [path.name for path in out.parent.iterdir()] == ["frame.png"], "no scratch file stays"


def test_the_real_frame_can_be_looked_at(nuscenes_real: Path, tmp_path: Path) -> None:
    root, version, split = real_frame_root(nuscenes_real, tmp_path / "real")
    assert check(root, deep=True).is_usable
    frame = NuScenesFrames(root=root, version=version, split=split, image_size=ImageSize(396, 704))[0]
    picture = draw_frame(frame)
    cameras = picture[: 2 * 396]
    assert cameras.std() > 40, "six photographs"
    barrier = np.abs(picture.astype(int) - CLASS_COLORS[9]).max(axis=2) < 8
    assert barrier[2 * 396 :].sum() > 200, "barriers from above"
    assert len(frame.cameras) == len(CAMERA_NAMES)

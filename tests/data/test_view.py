"""The picture of one frame: what lies under the boxes."""

import numpy as np
from fixtures.dense_labels import add_labels
from fixtures.scenes import one_car_ahead

from bevstack.data.bird_rasters import GROUND_COLOURS, MAP_COLOURS
from bevstack.data.view import draw_frame


def share_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((picture == colour).all(axis=2).mean())


def test_map_and_occupancy_labels_are_drawn_under_the_boxes() -> None:
    bare, frame = one_car_ahead(), add_labels(one_car_ahead())
    picture, plain = draw_frame(frame), draw_frame(bare)
    assert picture.shape[0] == plain.shape[0] + picture.shape[1] // 2, "a second view from above for the occupancy"
    side = picture.shape[1] // 2
    ahead = slice(side // 8, side // 4)  # rows between 27 and 41 m ahead
    on_map, occupied = picture[-2 * side : -side, :side][ahead], picture[-side:, :side][ahead]
    middle = slice(int(side * 0.42), int(side * 0.45))  # 5 to 9 m to the left
    assert share_of(on_map[:, middle], MAP_COLOURS["drivable_area"]) > 0.8  # rings and points lie over it
    assert share_of(occupied[:, middle], GROUND_COLOURS["driveable_surface"]) > 0.8
    assert share_of(plain[-side:, :side][ahead][:, middle], MAP_COLOURS["drivable_area"]) == 0

import numpy as np
import pytest
from fixtures.meshes import box, car_box
from fixtures.sensors import HEIGHT_PX, K_SMALL, WIDTH_PX, actor_at, looking_along_x, scene_of

from bevstack.sim.sensors.cameras import render_camera
from bevstack.sim.sensors.visibility import visibility_level, visible_fractions

WALL = box(size=(0.3, 2.2, 3.0))


def fractions(*actors):
    render = render_camera(
        scene_of(), K_cam=K_SMALL, T_global_cam=looking_along_x(), height_px=HEIGHT_PX, width_px=WIDTH_PX,
        actors=actors, seed=0,
    )  # fmt: skip
    return visible_fractions([render])


def test_a_car_in_the_open_is_fully_visible():
    assert fractions(actor_at(12, 0, car_box(), instance=4))[4] > 0.99


def test_visibility_falls_as_an_occluder_slides_in_front():
    car = actor_at(14, 0, car_box(), instance=4)
    values = [fractions(car, actor_at(8, y, WALL, instance=9))[4] for y in (3.0, 1.6, 1.2, 0.8, 0.4, 0.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.99 and values[-1] < 0.1 and 0.1 < values[3] < 0.9


def test_a_car_outside_every_picture_is_not_listed():
    assert 4 not in fractions(actor_at(-12, 0, car_box(), instance=4))


def test_both_pictures_count_together():
    class View:
        def __init__(self, silhouette, visible):
            self.silhouette_px, self.visible_px = {3: silhouette}, {3: visible}

    assert visible_fractions([View(100, 100), View(300, 0)])[3] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("fraction", "level"), [(0.0, 1), (0.4, 1), (0.41, 2), (0.6, 2), (0.7, 3), (0.81, 4), (1.0, 4)]
)
def test_bins_are_those_of_nuscenes(fraction, level):
    assert visibility_level(fraction) == level


def test_the_picture_border_does_not_count_as_an_occluder():
    side = actor_at(8, 5.5, car_box(), instance=4)
    assert np.isclose(fractions(side)[4], 1.0, atol=0.02)

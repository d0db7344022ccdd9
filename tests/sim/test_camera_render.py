import cv2
import numpy as np
import pytest
from fixtures.meshes import CAR_SEMANTIC, ROAD_SEMANTIC, box, car_box
from fixtures.sensors import HEIGHT_PX, K_SMALL, WIDTH_PX, actor_at, looking_along_x, scene_of

from bevstack.sim.sensors.cameras import SKY_SEMANTIC, CameraRender, render_camera
from bevstack.sim.sensors.weather import WEATHER_KINDS, make_weather
from bevstack.sim.world.mesh import Material


def view(scene, actors=(), seed=1, **changes) -> CameraRender:
    arguments = {
        "K_cam": K_SMALL, "T_global_cam": looking_along_x(), "height_px": HEIGHT_PX, "width_px": WIDTH_PX,
        "actors": list(actors), "seed": seed,
    } | changes  # fmt: skip
    return render_camera(scene, **arguments)


def test_labels_and_depth_agree_on_what_is_seen():
    render = view(scene_of(), [actor_at(12, 0, car_box(), instance=5)])
    on_car = render.instance == 5
    assert on_car.sum() > 100 and np.all(render.semantic[on_car] == CAR_SEMANTIC)
    np.testing.assert_allclose(render.depth_m[on_car].min(), 12 - 2.25, atol=0.01)
    assert np.all(np.isinf(render.depth_m) == (render.semantic == SKY_SEMANTIC))
    assert np.all(render.semantic[-1] == ROAD_SEMANTIC)


def test_an_actor_on_the_left_appears_on_the_left():
    render = view(scene_of(), [actor_at(12, 4, car_box(), instance=5)])
    assert np.nonzero(render.instance == 5)[1].max() < WIDTH_PX / 2


def test_the_same_arguments_give_the_same_bytes_and_another_seed_other_noise():
    actors = [actor_at(12, 3, car_box())]
    first, again, other = (view(scene_of(), actors, seed) for seed in (4, 4, 5))
    assert first.rgb.tobytes() == again.rgb.tobytes() and first.depth_m.tobytes() == again.depth_m.tobytes()
    assert first.rgb.tobytes() != other.rgb.tobytes()
    assert first.depth_m.tobytes() == other.depth_m.tobytes()


def test_the_number_of_threads_does_not_change_a_byte():
    before = cv2.getNumThreads()
    pictures = []
    try:
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            for kind in ("night", "rain"):
                pictures.append(view(scene_of(weather=kind), [actor_at(12, 3, car_box())]).rgb.tobytes())
    finally:
        cv2.setNumThreads(before)
    assert pictures[:2] == pictures[2:]


def test_the_sunlit_side_of_the_world_casts_a_shadow_on_the_ground():
    scene = scene_of(weather="day", seed=3)
    tower = box(size=(1.5, 1.5, 6), material=Material.CONCRETE)
    sun = np.array(scene.weather.sun_direction)
    # A tower 8 m from a spot, on the side of the sun, darkens that spot.
    spot = np.array([10.0, 0.0])
    toward = sun[:2] / np.linalg.norm(sun[:2])
    base = spot + toward * 2.0 / max(sun[2] / np.linalg.norm(sun[:2]), 0.2)
    lit = view(scene, [])
    shaded = view(scene, [actor_at(base[0], base[1], tower)])
    v = round(59.5 + 150 * 1.5 / 10)
    patch = (slice(v - 1, v + 2), slice(98, 102))
    assert np.all(shaded.instance[patch] == -1)
    assert shaded.rgb[patch].mean() < 0.8 * lit.rgb[patch].mean()


def test_ground_under_a_car_is_dark_without_sun_too():
    scene = scene_of(weather="overcast")
    free, covered = view(scene), view(scene, [actor_at(14, 0, box(size=(4, 2, 1), center=(0, 0, 0.5)))])
    v = round(59.5 + 150 * 1.5 / 13)
    patch = (slice(v - 1, v + 2), slice(98, 102))
    assert np.all(covered.instance[patch] == -1)
    assert covered.rgb[patch].mean() < 0.75 * free.rgb[patch].mean()


def test_fog_hides_what_is_far_and_not_what_is_near():
    def contrast(kind, distance):
        wall = box(size=(1, 200, 40), center=(distance, 0, 0), rgb=(10, 10, 10), material=Material.RUBBER)
        picture = view(scene_of(wall, weather=kind)).rgb.astype(float)
        return abs(picture[50:55].mean() - view(scene_of(weather=kind)).rgb[2:8].mean())

    assert contrast("fog", 120) < 20 < contrast("day", 120)
    assert contrast("fog", 6) > 40


def test_headlamps_light_the_road_at_night():
    scene = scene_of(weather="night")
    dark, bright = view(scene), view(scene, T_global_ego=np.eye(4))
    road = (slice(70, 90), slice(80, 120))
    assert bright.rgb[road].mean() > dark.rgb[road].mean() + 15


@pytest.mark.parametrize("kind", WEATHER_KINDS)
def test_pictures_are_neither_black_nor_blown_out(kind):
    for seed in range(3):
        scene = scene_of(box(size=(8, 30, 12), center=(30, 20, 0)), weather=kind, seed=seed)
        picture = view(scene, [actor_at(10, 2, car_box())], T_global_ego=np.eye(4)).rgb
        assert 15 < picture.mean() < 215 and picture.std() > 4
        assert (picture > 252).mean() < 0.35


def test_an_unknown_weather_is_refused_by_name():
    with pytest.raises(ValueError, match="'hail'.*overcast"):
        make_weather("hail", np.random.default_rng(0))


def test_weathers_of_one_kind_differ_and_repeat_with_the_seed():
    first, again, other = (make_weather("day", np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again and first != other

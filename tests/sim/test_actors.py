import numpy as np
import pytest

from bevstack.data.class_names import CLASS_OF_CATEGORY, DETECTION_CLASSES
from bevstack.sim.nuscenes_tables import LIDARSEG_CATEGORIES
from bevstack.sim.world.actors import VARIANTS, is_walker, make_actor

SHAPES = [(name, variant) for name, variants in VARIANTS.items() for variant in variants]

NUSCENES_MEAN_LWH = {
    "car": (4.6, 1.95, 1.73), "truck": (6.9, 2.5, 2.8), "bus": (11.0, 2.9, 3.5), "trailer": (12.0, 2.9, 3.9),
    "construction_vehicle": (6.4, 2.8, 3.2), "pedestrian": (0.73, 0.67, 1.77), "motorcycle": (2.1, 0.77, 1.47),
    "bicycle": (1.7, 0.6, 1.28), "traffic_cone": (0.41, 0.41, 1.07), "barrier": (0.5, 2.5, 0.98),
}  # fmt: skip


def union_of_phases(model):
    return np.concatenate([mesh.vertices for mesh in model.meshes])


@pytest.mark.parametrize(("class_name", "variant"), SHAPES)
def test_a_mesh_fills_its_box_on_every_side(class_name, variant):
    model = make_actor(class_name, np.random.default_rng(5), variant=variant)
    points = union_of_phases(model)
    length, width, height = model.size_lwh
    np.testing.assert_allclose(points.min(0), (-length / 2, -width / 2, 0.0), atol=0.03)
    np.testing.assert_allclose(points.max(0), (length / 2, width / 2, height), atol=0.03)


@pytest.mark.parametrize(("class_name", "variant"), SHAPES)
def test_a_shape_has_between_100_and_1200_triangles_without_degenerate_corners(class_name, variant):
    model = make_actor(class_name, np.random.default_rng(6), variant=variant)
    for mesh in model.meshes:
        assert 100 <= len(mesh.faces) <= 1200
        assert np.isfinite(mesh.vertices).all()
        assert mesh.faces.max() < len(mesh.vertices)


@pytest.mark.parametrize(("class_name", "variant"), SHAPES)
def test_faces_wind_outwards(class_name, variant):
    # The signed volume of closed solids is positive only when their faces wind counter-clockwise seen from outside.
    mesh = make_actor(class_name, np.random.default_rng(7), variant=variant).meshes[0]
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() > 0


@pytest.mark.parametrize(
    ("class_name", "variant"), [s for s in SHAPES if s[0] not in ("traffic_cone", "barrier") and s[1] != "sitting"]
)
def test_front_and_back_differ_so_that_the_heading_can_be_seen(class_name, variant):
    mesh = make_actor(class_name, np.random.default_rng(8), variant=variant).meshes[0]
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    centre = (a + b + c) / 3
    length = np.ptp(mesh.vertices[:, 0])
    height = np.ptp(mesh.vertices[:, 2])
    bins = (np.array((-0.5, -0.3, -0.1, 0.1, 0.3, 0.5)) * length, np.linspace(0, height, 6))
    histogram, _, _ = np.histogram2d(centre[:, 0], centre[:, 2], bins=bins, weights=area)
    mirrored = np.abs(histogram - histogram[::-1]).sum() / histogram.sum()
    assert mirrored > 0.1


@pytest.mark.parametrize("class_name", DETECTION_CLASSES)
def test_mean_sizes_are_those_of_nuscenes(class_name):
    rng = np.random.default_rng(1)
    rounds = 40 if class_name != "pedestrian" else 12
    sizes = [make_actor(class_name, rng).size_lwh for _ in range(rounds)]
    if class_name in ("motorcycle", "bicycle"):  # nuScenes averages ridden and parked ones
        parked = "street" if class_name == "motorcycle" else "parked"
        sizes += [make_actor(class_name, rng, variant=parked).size_lwh for _ in range(rounds)]
    np.testing.assert_allclose(np.mean(sizes, axis=0), NUSCENES_MEAN_LWH[class_name], rtol=0.2)


@pytest.mark.parametrize("class_name", DETECTION_CLASSES)
def test_category_class_and_lidarseg_label_agree(class_name):
    model = make_actor(class_name, np.random.default_rng(2))
    assert CLASS_OF_CATEGORY[model.category] == class_name == model.class_name
    assert LIDARSEG_CATEGORIES[model.lidarseg] == model.category
    assert set(model.meshes[0].semantic.tolist()) == {model.lidarseg}


def test_the_same_generator_gives_the_same_actor():
    first, second = (make_actor("car", np.random.default_rng(9)) for _ in range(2))
    assert first.size_lwh == second.size_lwh
    np.testing.assert_array_equal(first.meshes[0].vertices, second.meshes[0].vertices)
    np.testing.assert_array_equal(first.meshes[0].albedo, second.meshes[0].albedo)


def test_a_walker_has_a_stride_of_different_meshes_and_one_that_stands():
    model = make_actor("pedestrian", np.random.default_rng(3), variant="adult")
    assert is_walker(model)
    lengths = [np.ptp(mesh.vertices[:, 0]) for mesh in model.meshes]
    assert lengths[model.standing_phase] < max(lengths) - 0.1


def test_an_unknown_class_or_variant_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="known: car, truck"):
        make_actor("tram", np.random.default_rng(0))
    with pytest.raises(ValueError, match="known: sedan"):
        make_actor("car", np.random.default_rng(0), variant="limousine")

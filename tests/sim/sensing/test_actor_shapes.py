"""Bodies for the actors of scenarios."""

import numpy as np
import pytest

from bevstack.sim.scenario.schema import DEFAULT_SIZES
from bevstack.sim.sensing.actor_shapes import actor_shape


@pytest.mark.parametrize("class_name", sorted(DEFAULT_SIZES))
def test_the_body_of_every_class_of_scenarios_fills_the_box_that_it_is_given(class_name):
    size = DEFAULT_SIZES[class_name]
    model = actor_shape(class_name, size_lwh=size, seed=4)
    corners = np.concatenate([mesh.vertices for mesh in model.meshes])
    assert model.size_lwh == size
    # Legs of walkers and wheels of cycles move: the box is that of all phases.
    np.testing.assert_allclose(np.ptp(corners, axis=0), size, rtol=0.02)
    np.testing.assert_allclose(corners.min(0)[2], 0.0, atol=0.02)
    np.testing.assert_allclose((corners.min(0) + corners.max(0))[:2], 0.0, atol=0.04)


def test_the_same_seed_gives_the_same_body():
    one, same, other = (actor_shape("car", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.meshes[0].vertices, same.meshes[0].vertices)
    assert one.size_lwh != other.size_lwh


def test_an_unknown_class_or_an_impossible_size_is_named():
    with pytest.raises(ValueError, match=r"'buildin'.*building"):
        actor_shape("buildin")
    with pytest.raises(ValueError, match="positive"):
        actor_shape("car", size_lwh=(4.0, 0.0, 1.5))

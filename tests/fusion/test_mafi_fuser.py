import pytest
import torch
from fixtures.batches import SMALL_GRID

from bevstack.fusion.concat import ConcatFuser
from bevstack.fusion.mafi import MafiFuser
from bevstack.types import BevFeatures

CHANNELS = {"camera": 3, "lidar": 5}


def bev(channels: int, batch_size: int = 2, grid=SMALL_GRID) -> BevFeatures:  # type: ignore[no-untyped-def]
    rows, columns = grid.shape_yx
    return BevFeatures(
        data=torch.randn(batch_size, channels, rows, columns),
        valid=torch.ones((batch_size, 1, rows, columns), dtype=torch.bool),
        grid=grid,
    )


def make_fuser(*sources: str) -> MafiFuser:
    """A fuser whose votes depend on what is seen, unlike those of a fresh one."""
    fuser = MafiFuser(in_channels={name: CHANNELS[name] for name in sources or CHANNELS}, out_channels=8).eval()
    for parameter in fuser.votes.parameters():
        torch.nn.init.normal_(parameter)
    return fuser


def both() -> dict[str, BevFeatures]:
    return {name: bev(channels) for name, channels in CHANNELS.items()}


def test_a_fresh_fuser_is_the_concatenation_whose_weights_it_takes_by_name() -> None:
    plain, fuser, sources = ConcatFuser(in_channels=CHANNELS).eval(), MafiFuser(in_channels=CHANNELS).eval(), both()
    missing = fuser.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys and all(name.startswith("votes.") for name in missing.missing_keys)
    torch.testing.assert_close(fuser(sources).data, plain(sources).data)


def test_the_output_is_the_concatenation_times_the_sum_of_two_sigmoids() -> None:
    fuser, sources = make_fuser(), both()
    factor = 0.0
    for name in ("lidar", "camera"):
        vote = fuser.votes[name]
        mean = vote.view(sources[name].data).mean(dim=(2, 3))
        factor = factor + torch.sigmoid(mean @ vote.project.weight.T + vote.project.bias)
    expected = ConcatFuser.forward(fuser, sources).data * factor[:, :, None, None]
    torch.testing.assert_close(fuser(sources).data, expected)


def test_the_two_projections_are_separate() -> None:
    fuser, sources = make_fuser(), both()
    before = {name: fuser.votes[name](sources[name]) for name in CHANNELS}
    torch.nn.init.normal_(fuser.votes["lidar"].project.weight)
    assert not torch.equal(fuser.votes["lidar"](sources["lidar"]), before["lidar"])
    assert torch.equal(fuser.votes["camera"](sources["camera"]), before["camera"])


@pytest.mark.parametrize("left_out", ["camera", "lidar"])
def test_a_source_left_out_equals_one_that_sees_nothing_even_if_it_is_nan(left_out: str) -> None:
    fuser, sources = make_fuser(), both()
    without = fuser({name: source for name, source in sources.items() if name != left_out})
    sources[left_out].valid[:] = False
    sources[left_out].data[:] = torch.nan
    blind = fuser(sources)
    torch.testing.assert_close(without.data, blind.data)
    assert torch.equal(without.valid, blind.valid) and without.data.isfinite().all()


def test_the_vote_of_a_blind_source_does_not_depend_on_the_scene() -> None:
    fuser = make_fuser()
    for source in (bev(5), bev(5)):
        source.valid[0] = False
        vote = fuser.votes["lidar"](source)
        torch.testing.assert_close(vote[:1], fuser.votes["lidar"].blind(1))
        assert not torch.allclose(vote[1:], vote[:1])


def test_only_cells_that_are_seen_count_for_the_mean() -> None:
    fuser = make_fuser()
    fuser.votes["lidar"].view[0].weight.data[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    source = bev(5)
    source.data[..., :16] = 0.7
    source.data[..., 16:] = -3.0
    narrow = BevFeatures(data=source.data, valid=source.valid.clone(), grid=source.grid)
    narrow.valid[..., 16:] = False
    constant = BevFeatures(data=torch.full_like(source.data, 0.7), valid=source.valid, grid=source.grid)
    torch.testing.assert_close(fuser.votes["lidar"](narrow), fuser.votes["lidar"](constant))


@pytest.mark.parametrize("source", ["camera", "lidar"])
def test_a_model_with_one_sensor_has_one_vote_and_one_half(source: str) -> None:
    fuser, features = make_fuser(source), bev(CHANNELS[source])
    expected = ConcatFuser.forward(fuser, {source: features}).data * (fuser.votes[source](features) + 0.5)
    torch.testing.assert_close(fuser({source: features}).data, expected)


def test_two_frames_at_once_equal_each_alone() -> None:
    fuser, sources = make_fuser(), both()
    sources["camera"].valid[0] = False
    sources["lidar"].valid[1, ..., :5] = False
    fused = fuser(sources)
    for index in range(2):
        cut = slice(index, index + 1)
        alone = fuser({n: BevFeatures(data=s.data[cut], valid=s.valid[cut], grid=s.grid) for n, s in sources.items()})
        torch.testing.assert_close(fused.data[cut], alone.data)


def test_the_gradient_reaches_every_parameter() -> None:
    fuser = make_fuser().train()
    fuser(both()).data.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in fuser.parameters())


def test_sources_on_different_grids_and_unknown_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="lidar lies on"):
        make_fuser()({"camera": bev(3), "lidar": bev(5, grid=SMALL_GRID.strided(2))})
    with pytest.raises(ValueError, match="radar"):
        make_fuser()({"camera": bev(3), "radar": bev(5)})


def test_one_source_cannot_vote_twice() -> None:
    with pytest.raises(ValueError, match="name two"):
        MafiFuser(in_channels=CHANNELS, detection_source="camera")

"""A model with a memory and a language gate: streams equal clips, and without past and text it is the model without."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, make_labels, one_frame, random_cloud
from fixtures.scenes import IMAGE_HEIGHT, IMAGE_WIDTH, one_car_ahead
from fixtures.training_runs import shrunk, some_frames

from bevstack.build import build_loader
from bevstack.data.clips import Clip
from bevstack.data.collate import collate_clips
from bevstack.data.images import ImageSize
from bevstack.engine import Session
from bevstack.fusion.bev_backbone import BevBackbone
from bevstack.fusion.concat import ConcatFuser
from bevstack.fusion.language_gate import LanguageGate
from bevstack.fusion.temporal import TemporalFusion
from bevstack.model import DrivingModel
from bevstack.perception.heads.detection import CenterHead
from bevstack.perception.lidar.pillars import PillarEncoder
from bevstack.training.transfer import load_matching
from bevstack.types import Batch, Frame
from bevstack.types.cue import Cue
from bevstack.weights_file import describe, write_weights

WIDTH = 8
MEMORY = partial(TemporalFusion, hidden_channels=8, num_past=2)
GATE = partial(LanguageGate, embedding_dim=WIDTH)


def make_model(
    *, memory: partial | None = MEMORY, language: partial | None = GATE, trained: bool = True
) -> DrivingModel:
    torch.manual_seed(0)
    model = DrivingModel(
        encoders={"lidar": PillarEncoder(grid=SMALL_GRID, pillar_channels=8, out_channels=8)},
        fuser=partial(ConcatFuser, out_channels=8),
        backbone=partial(BevBackbone, widths=(8,), depths=(1,), strides=(1,), up_channels=8),
        heads={"detection": partial(CenterHead, shared_channels=8, branch_channels=8)},
        memory=memory,
        language=language,
    ).eval()
    for part in (model.memory, model.language):
        if trained and part is not None:
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
    return model


def frame_at(step: int, scene: str = "scene", *, cue: bool = False) -> Frame:
    """A frame every half second, a metre further on, with a cloud of its own."""
    frame = one_car_ahead()
    pose = np.eye(4)
    pose[:2, 3] = 1000.0 + step, 500.0
    cloud = random_cloud(np.random.default_rng(step), 400)
    assert frame.lidar is not None
    now = replace(
        frame,
        token=f"{scene}-{step}",
        scene_name=scene,
        timestamp_us=1_000_000 + 500_000 * step,
        cameras=(),
        lidar=replace(frame.lidar, points_ego=cloud),
        ego=replace(frame.ego, T_global_ego=pose),
        annotations=None,
    )
    return replace(now, cue=cue_of(now)) if cue else now


def cue_of(frame: Frame) -> Cue:
    embedding = np.zeros(WIDTH, np.float32)
    embedding[2] = 1.0
    return Cue(
        text="someone crosses from the left",
        embedding=embedding,
        mirrored_embedding=None,
        frame_token=frame.token,
        timestamp_us=frame.timestamp_us,
        source="by hand",
    )


def clips(*of: Clip) -> Batch:
    return collate_clips(of, camera_names=(), image_size=ImageSize(IMAGE_HEIGHT, IMAGE_WIDTH))[0]


def heat(outputs: dict) -> torch.Tensor:
    return outputs["detection"].heatmap


@torch.no_grad()
def test_frame_by_frame_equals_the_clip_at_once() -> None:
    model, frames = make_model(), [frame_at(step) for step in range(3)]
    memory, outputs = None, {}
    for frame in frames:
        outputs, memory = model.step(clips(Clip(frame=frame)), memory)
    at_once = model(clips(Clip(frame=frames[-1], history=tuple(frames[:-1]))))
    torch.testing.assert_close(heat(outputs), heat(at_once))
    assert not torch.allclose(heat(outputs), heat(model(clips(Clip(frame=frames[-1])))))


@torch.no_grad()
def test_blanks_at_the_start_of_a_scene_leave_no_trace() -> None:
    model = make_model()
    long = Clip(frame=frame_at(4), history=tuple(frame_at(step) for step in range(2, 4)))
    short = Clip(frame=frame_at(1, "new"), history=(frame_at(0, "new"),))
    first = Clip(frame=frame_at(9, "newest"))
    together = model(clips(long, short, first))
    for index, clip in enumerate((long, short, first)):
        torch.testing.assert_close(heat(together)[index : index + 1], heat(model(clips(clip))), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(heat(together)[2:], heat(model.step(clips(first))[0]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_session_gives_what_the_clip_gives_and_forgets_between_scenes() -> None:
    model = make_model()
    engine = Session(model, camera_names=(), image_size=ImageSize(IMAGE_HEIGHT, IMAGE_WIDTH))
    frames = [frame_at(0), frame_at(1), frame_at(1), frame_at(2), frame_at(0, "other"), frame_at(1, "other")]
    estimates = [engine.step(frame) for frame in frames]
    for place, history in ((3, (frames[0], frames[1])), (4, ()), (5, (frames[4],))):
        batch = clips(Clip(frame=frames[place], history=history))
        expected = model.decode(model(batch), batch)[0].detections
        found = estimates[place].detections
        assert found is not None and expected is not None and len(found) == len(expected)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(estimates[1].detections.scores, estimates[2].detections.scores)


@torch.no_grad()
def test_the_attention_of_a_cue_is_in_the_estimate_and_its_frame_differs_from_one_without() -> None:
    engine = Session(make_model(), camera_names=(), image_size=ImageSize(IMAGE_HEIGHT, IMAGE_WIDTH))
    told = engine.step(frame_at(0, cue=True))
    assert told.attention is not None and told.cue is not None
    assert told.attention.cue_weight > 0 and told.attention.weights.shape == SMALL_GRID.shape_yx
    engine.reset()
    untold = engine.step(frame_at(0))
    assert untold.attention is not None and untold.attention.cue_weight == 0 and untold.cue is None


@torch.no_grad()
def test_without_a_cue_a_model_with_the_gate_is_the_model_without_it_bit_for_bit() -> None:
    told = make_model(memory=None)
    bare = make_model(memory=None, language=None)
    bare.load_state_dict(told.state_dict(), strict=False)
    batch = clips(Clip(frame=frame_at(0)), Clip(frame=frame_at(1)))
    assert torch.equal(heat(told(batch)), heat(bare(batch)))
    mixed = clips(Clip(frame=frame_at(0, cue=True)), Clip(frame=frame_at(1)))
    assert torch.equal(heat(told(mixed))[1], heat(bare(mixed))[1])
    assert not torch.equal(heat(told(mixed))[0], heat(bare(mixed))[0])


@torch.no_grad()
def test_weights_of_a_model_of_single_frames_fit_and_give_its_output_at_first(tmp_path) -> None:
    single = make_model(memory=None, language=None)
    file = write_weights(tmp_path / "single.safetensors", single.state_dict(), describe("", step=0, data_hash=""))
    whole = make_model(trained=False)
    for parameter in whole.encoders.parameters():
        torch.nn.init.normal_(parameter)
    report = load_matching(whole, file)
    assert all(name.startswith(("memory.", "language.")) for name in report.fresh) and not report.unused
    clip = Clip(frame=frame_at(2, cue=True), history=(frame_at(0), frame_at(1)))
    assert torch.equal(heat(whole(clips(clip))), heat(single(clips(Clip(frame=clip.frame)))))


def test_training_a_memory_without_a_past_is_refused(tmp_path) -> None:
    config = shrunk("temporal_small", tmp_path, "data.num_history=0")
    with pytest.raises(ValueError, match=r"data\.num_history=3"):
        build_loader(config, some_frames(2), "train", batch_size=2)
    assert len(build_loader(config, some_frames(2), "val", batch_size=2)) == 1


def test_the_loss_has_a_term_of_the_gate_and_history_gives_no_gradient() -> None:
    model = make_model().train()
    batch = clips(
        *[Clip(frame=frame_at(2 + k, f"s{k}", cue=True), history=(frame_at(1 + k, f"s{k}"),)) for k in range(2)]
    )
    terms = model.loss(model(batch), make_labels([[], []]))
    assert terms["language/distillation"] > 0 and terms["language/distillation"].requires_grad
    torch.stack(list(terms.values())).sum().backward()
    assert model.memory.change.weight.grad.abs().sum() > 0
    past = batch.history[0]
    with torch.no_grad():
        remembered = model.memory.remember(model._fused(past), past)
    assert not remembered.features.requires_grad


@pytest.mark.parametrize("form", ["weighted", "spatial", "residual"])
@torch.no_grad()
def test_two_frames_of_which_one_has_a_cue_equal_each_alone(form: str) -> None:
    model = make_model(memory=None, language=partial(GATE, form=form))
    cloud = random_cloud(np.random.default_rng(0), 300)
    both = replace(
        make_batch([cloud, cloud + 0.1], num_cameras=1, image_size=(2, 2)),
        cue_embedding=torch.eye(2, WIDTH) * torch.tensor([[1.0], [0.0]]),
        cue_mask=torch.tensor([True, False]),
        cue_age_s=torch.zeros(2),
    )
    together = heat(model(both))
    for index in range(2):
        alone = one_frame(both, index)
        if index == 0:
            cue = {name: getattr(both, name)[:1] for name in ("cue_embedding", "cue_mask", "cue_age_s")}
            alone = replace(alone, **cue)
        torch.testing.assert_close(together[index : index + 1], heat(model(alone)), rtol=1e-4, atol=1e-5)

"""Cues of a cache, by the configuration, from the folder of a data set into batches."""

import logging
from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_tiny import SCENE, SPLIT, VERSION, write_tiny
from fixtures.planned_frames import unit_vector
from omegaconf import DictConfig
from torch import nn

from bevstack.build import LoadedModel, build_frames, build_loader, compose
from bevstack.data.augment import WorldAugmentation
from bevstack.data.cue_cache import CueRow, CueSettings, claim_cache, cue_folder, write_scene
from bevstack.data.cued_frames import CuedFrames
from bevstack.data.loader import make_loader
from bevstack.data.picture_hash import picture_hash
from bevstack.evaluation.checkpoint import checkpoint_of

WIDTH = 6


def configured(root: Path, *overrides: str) -> DictConfig:
    fixed = [f"data.{key}={value}" for key, value in (("root", root), ("val_root", root))]
    fixed += [f"data.{key}={VERSION}" for key in ("version", "val_version")]
    fixed += [f"data.{key}={SPLIT}" for key in ("train_split", "val_split")]
    size = ["input.image_size.height=90", "input.image_size.width=160"]
    return compose(["experiment=fusion_small", "augment=mirror", *fixed, *size, *overrides])


def write_cues(root: Path, *, refinement: str = "none") -> None:
    """A cue for both frames; left and right exchanged gives the embedding the other way round."""
    settings = CueSettings(
        captioner="by-hand",
        prompt_version="1",
        encoder="none",
        refinement=refinement,
        cameras=("CAM_FRONT",),
        width=WIDTH,
    )
    folder = cue_folder(root, "by-hand")
    claim_cache(folder, settings)
    frames = build_frames(configured(root))
    rows = []
    for k in range(len(frames)):
        frame = frames[k]
        vector = unit_vector(WIDTH, k)
        row = CueRow(
            sample_token=frame.token,
            timestamp_us=frame.timestamp_us,
            picture_hash=picture_hash(frames, frame, settings.cameras),
            raw_text="a car ahead",
            text="a car ahead",
            fault="",
            embedding=vector,
            mirrored_embedding=vector[::-1].copy(),
        )
        rows.append(row)
    write_scene(folder / f"{SCENE}.parquet", rows, settings)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    out = write_tiny(tmp_path / "tiny")
    write_cues(out)
    return out


def test_cues_reach_the_batch_and_its_history(root: Path) -> None:
    config = configured(root, "data.cues.name=by-hand", "data.num_history=1")
    batch, labels = next(iter(build_loader(config, build_frames(config), batch_size=2)))
    assert labels is not None and batch.cue_mask.all() and not batch.cue_age_s.any()
    np.testing.assert_array_equal(batch.cue_embedding.numpy(), [unit_vector(WIDTH, 0), unit_vector(WIDTH, 1)])
    assert batch.history[0].cue_mask.tolist() == [False, True]
    np.testing.assert_array_equal(batch.history[0].cue_embedding[1].numpy(), unit_vector(WIDTH, 0))


def test_a_stale_cue_is_that_of_an_earlier_frame_and_says_how_old_it_is(root: Path) -> None:
    config = configured(root, "data.cues.name=by-hand", "data.cues.age_s=0.5")
    batch, _ = next(iter(build_loader(config, build_frames(config), batch_size=2)))
    assert batch.cue_mask.tolist() == [False, True]
    np.testing.assert_array_equal(batch.cue_embedding[1].numpy(), unit_vector(WIDTH, 0))
    np.testing.assert_allclose(batch.cue_age_s.numpy(), (0.0, 0.5))


def test_a_mirrored_frame_has_the_mirrored_cue(root: Path) -> None:
    config = configured(root, "data.cues.name=by-hand")
    always = WorldAugmentation(
        rotation_rad=0.0,
        scale_range=(1.0, 1.0),
        translation_std_m=(0.0, 0.0, 0.0),
        flip_x_probability=0.0,
        flip_y_probability=1.0,
    )
    batch, _ = next(iter(make_loader(build_frames(config), batch_size=2, augmentations=[always])))
    np.testing.assert_array_equal(batch.cue_embedding[0].numpy(), unit_vector(WIDTH, 0)[::-1])


def test_without_a_name_or_a_cache_frames_have_no_cues(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert build_frames(configured(root))[0].cue is None
    with caplog.at_level(logging.WARNING):
        frames = build_frames(configured(root, "data.cues.name=nowhere"))
    assert "all frames go on without a cue" in caplog.text
    batch, _ = next(iter(build_loader(configured(root), frames, batch_size=2)))
    assert batch.cue_embedding is None and batch.cue_mask is None


def test_cues_that_carry_answers_are_refused_on_a_split_that_is_not_for_training(tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "tiny")
    write_cues(root, refinement="annotations")
    with pytest.raises(ValueError, match=f"split '{SPLIT}' is not for training"):
        build_frames(configured(root, "data.cues.name=by-hand"))


def test_evaluation_reads_the_cues_that_a_model_was_trained_with(root: Path) -> None:
    config = configured(root, "data.cues.name=by-hand")
    checkpoint = checkpoint_of(LoadedModel(model=nn.Identity(), config=config, metadata={}), "here")
    frames = checkpoint.frames(root, VERSION, SPLIT)
    assert isinstance(frames, CuedFrames) and frames[1].cue is not None
    assert frames.index.num_samples == len(frames) == 2 and frames.index_of(frames[1].token) == 1

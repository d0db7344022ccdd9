"""Several `Frame`s to one `Batch` and, where they are annotated, one `Labels`."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch

from bevstack.data.class_names import CAMERA_NAMES, OCCUPANCY_IGNORE
from bevstack.data.clips import Clip, history_rows
from bevstack.data.collate_guidance import collate_guidance
from bevstack.data.images import ImageSize
from bevstack.types.batch import Batch, Labels
from bevstack.types.boxes import BoxIndex
from bevstack.types.frame import POINT_COLUMNS, Annotations, Frame, MapMasks, OccupancyGrid


def collate(
    frames: Sequence[Frame],
    camera_names: Sequence[str] = CAMERA_NAMES,
    image_size: ImageSize | None = None,
) -> tuple[Batch, Labels | None]:
    """What the model receives and what the loss receives, for these frames in this order.

    Args:
        frames: at least one. Cameras may be missing in any of them: `camera_mask` is False there, the image is zero,
            K_cam and T_ego_cam are the identity. Cameras whose name is not asked for are left out.
        camera_names: order of the N axis.
        image_size: size that the pictures must have; None takes it from them. Needed where no frame has a picture.

    Returns:
        The batch, and the labels or None where the frames carry no annotations. Pictures lie in memory with the
        channels last, as they come from the decoder; the shape is (B, N, 3, H, W) all the same.

    Raises:
        ValueError: there are no frames, pictures differ in size, only some frames are annotated, map masks or
            occupancy lie on different grids, futures have different lengths, cues different widths, a box cannot be
            true, or no frame has a picture and `image_size` is not given.
    """
    if not frames:
        raise ValueError("a batch needs at least one frame")
    names = tuple(camera_names)
    images, K_cam, T_ego_cam, camera_mask = _collate_cameras(frames, names, image_size)
    clouds = [frame.lidar.points_ego for frame in frames if frame.lidar is not None]
    counts = [len(frame.lidar.points_ego) if frame.lidar is not None else 0 for frame in frames]
    points = np.concatenate(clouds) if clouds else np.zeros((0, POINT_COLUMNS), np.float32)
    batch = Batch(
        images=images,
        K_cam=K_cam,
        T_ego_cam=T_ego_cam,
        camera_mask=camera_mask,
        points_ego=torch.from_numpy(points),
        point_frame_index=torch.from_numpy(np.repeat(np.arange(len(frames)), counts)),
        lidar_mask=torch.tensor([frame.lidar is not None for frame in frames]),
        T_global_ego=torch.from_numpy(np.stack([frame.ego.T_global_ego for frame in frames]).astype(np.float64)),
        timestamps_us=torch.tensor([frame.timestamp_us for frame in frames], dtype=torch.int64),
        tokens=tuple(frame.token for frame in frames),
        scene_names=tuple(frame.scene_name for frame in frames),
        **collate_guidance(frames),
    )
    return batch, _collate_labels(frames)


def collate_clips(
    clips: Sequence[Clip],
    camera_names: Sequence[str] = CAMERA_NAMES,
    image_size: ImageSize | None = None,
) -> tuple[Batch, Labels | None]:
    """As `collate`, with the frames before these as `Batch.history`: as many steps back as the longest clip reaches.

    Raises:
        ValueError: as `collate`; also where pictures of the past have another size.
    """
    batch, labels = collate([clip.frame for clip in clips], camera_names, image_size)
    size = ImageSize(*batch.images.shape[-2:])
    history = tuple(collate(frames, camera_names, size)[0] for frames in history_rows(clips))
    return replace(batch, history=history), labels


def _collate_cameras(
    frames: Sequence[Frame], names: tuple[str, ...], image_size: ImageSize | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(images, K_cam, T_ego_cam, camera_mask) as `Batch` has them."""
    size = _common_size(frames, names, image_size)
    shape = (len(frames), len(names))
    images = np.zeros((*shape, size.height, size.width, 3), np.uint8)
    K_cam = np.tile(np.eye(3, dtype=np.float32), (*shape, 1, 1))
    T_ego_cam = np.tile(np.eye(4, dtype=np.float32), (*shape, 1, 1))
    camera_mask = np.zeros(shape, bool)
    for b, frame in enumerate(frames):
        for camera in frame.cameras:
            if camera.name not in names:
                continue
            n = names.index(camera.name)
            images[b, n], K_cam[b, n], T_ego_cam[b, n] = camera.rgb, camera.K_cam, camera.T_ego_cam
            camera_mask[b, n] = True
    channels_first = torch.from_numpy(images).permute(0, 1, 4, 2, 3)
    return channels_first, torch.from_numpy(K_cam), torch.from_numpy(T_ego_cam), torch.from_numpy(camera_mask)


def _common_size(frames: Sequence[Frame], names: tuple[str, ...], expected: ImageSize | None) -> ImageSize:
    sizes = {
        camera.rgb.shape[:2]: f"{camera.name} of frame {frame.token}"
        for frame in frames
        for camera in frame.cameras
        if camera.name in names
    }
    if expected is not None:
        sizes = {expected.height_width: "image_size"} | sizes
    if len(sizes) > 1:
        found = ", ".join(f"{height} x {width} ({where})" for (height, width), where in sizes.items())
        raise ValueError(f"pictures of one batch must have one size, these have {found}: read them with one image_size")
    if not sizes:
        if not names:
            return ImageSize(1, 1)  # no camera axis, so no pixel exists and any size will do
        raise ValueError("no frame of the batch has a picture of the cameras asked for: pass image_size to collate")
    return ImageSize(*next(iter(sizes)))


def _collate_labels(frames: Sequence[Frame]) -> Labels | None:
    annotated = [frame.annotations for frame in frames if frame.annotations is not None]
    if not annotated:
        return None
    if len(annotated) < len(frames):
        bare = next(frame.token for frame in frames if frame.annotations is None)
        raise ValueError(f"frame {bare} has no annotations but others of its batch have: do not mix splits in a batch")
    for frame, item in zip(frames, annotated, strict=True):
        _check_boxes(frame.token, item)
    map_masks, map_valid = _collate_maps(frames, [item.map_masks for item in annotated])
    occupancy, camera_mask, lidar_mask = _collate_occupancy(frames, [item.occupancy for item in annotated])
    agents = _collate_agent_futures(frames, annotated)
    return Labels(
        boxes_ego=tuple(torch.tensor(item.boxes.rows) for item in annotated),
        class_index=tuple(torch.tensor(item.boxes.class_index) for item in annotated),
        attribute_index=tuple(torch.tensor(item.attribute_index) for item in annotated),
        num_points=tuple(torch.from_numpy(_points_inside(item)) for item in annotated),
        map_masks=map_masks,
        map_valid=map_valid,
        occupancy=occupancy,
        occupancy_camera_mask=camera_mask,
        occupancy_lidar_mask=lidar_mask,
        agent_futures_ego=agents,
        ego_future=_collate_ego_future(frames, [item.ego_future for item in annotated]),
    )


def _check_boxes(token: str, annotations: Annotations) -> None:
    rows = annotations.boxes.rows
    sizes = rows[:, BoxIndex.LENGTH : BoxIndex.HEIGHT + 1]
    usable = np.isfinite(rows[:, : BoxIndex.VX]).all(axis=1) & (sizes > 0).all(axis=1)
    if not usable.all():
        wrong = int(np.flatnonzero(~usable)[0])
        raise ValueError(
            f"frame {token}: box {annotations.tokens[wrong]} is {rows[wrong].tolist()}; a box needs a finite centre "
            "and yaw and a positive size (only its velocity may be NaN)"
        )


def _collate_maps(
    frames: Sequence[Frame], masks: Sequence[MapMasks | None]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(map_masks, map_valid) as `Labels` has them; None where no frame has a map."""
    present = [item for item in masks if item is not None]
    if not present:
        return None, None
    _check_same_place(
        "map masks", [(f.token, (m.masks.shape, m.grid)) for f, m in zip(frames, masks, strict=True) if m]
    )
    stacked = np.zeros((len(masks), *present[0].masks.shape), bool)
    for b, item in enumerate(masks):
        if item is not None:
            stacked[b] = item.masks
    return torch.from_numpy(stacked), torch.tensor([item is not None for item in masks])


def _collate_occupancy(
    frames: Sequence[Frame], grids: Sequence[OccupancyGrid | None]
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Classes, camera mask and LiDAR mask as `Labels` has them; a frame without labels is ignored and unobserved."""
    present = [item for item in grids if item is not None]
    if not present:
        return None, None, None
    _check_same_place("occupancy", [(f.token, (o.semantics.shape, o.grid)) for f, o in zip(frames, grids) if o])
    shape = (len(grids), *present[0].semantics.shape)
    semantics = np.full(shape, OCCUPANCY_IGNORE, np.uint8)
    camera_mask, lidar_mask = np.zeros(shape, bool), np.zeros(shape, bool)
    for b, item in enumerate(grids):
        if item is not None:
            semantics[b], camera_mask[b], lidar_mask[b] = item.semantics, item.camera_mask, item.lidar_mask
    return torch.from_numpy(semantics), torch.from_numpy(camera_mask), torch.from_numpy(lidar_mask)


def _collate_agent_futures(
    frames: Sequence[Frame], annotated: Sequence[Annotations]
) -> tuple[torch.Tensor, ...] | None:
    """One (N, T, 2) a frame; all NaN in a frame without futures, None where no frame has any."""
    futures = [item.agent_futures_ego for item in annotated]
    num_steps = _common_steps("agent futures", frames, [None if item is None else item.shape[1] for item in futures])
    if num_steps is None:
        return None
    unknown = [np.full((len(item.boxes), num_steps, 2), np.nan) for item in annotated]
    filled = [nothing if known is None else known for known, nothing in zip(futures, unknown, strict=True)]
    return tuple(torch.tensor(item, dtype=torch.float32) for item in filled)


def _collate_ego_future(frames: Sequence[Frame], futures: Sequence[np.ndarray | None]) -> torch.Tensor | None:
    """(B, S, 3); all NaN in a frame without a future, None where no frame has one."""
    num_steps = _common_steps("own futures", frames, [None if item is None else len(item) for item in futures])
    if num_steps is None:
        return None
    filled = [np.full((num_steps, 3), np.nan) if item is None else item for item in futures]
    return torch.from_numpy(np.stack(filled).astype(np.float32))


def _common_steps(what: str, frames: Sequence[Frame], num_steps: Sequence[int | None]) -> int | None:
    """The number of steps of all futures that there are; None where there are none."""
    first_of: dict[int, str] = {}
    for frame, count in zip(frames, num_steps, strict=True):
        if count is not None:
            first_of.setdefault(count, frame.token)
    if len(first_of) > 1:
        listed = ", ".join(f"{count} steps (frame {token})" for count, token in first_of.items())
        raise ValueError(f"{what} of one batch must have one length, these have {listed}")
    return next(iter(first_of), None)


def _check_same_place(what: str, places: Sequence[tuple[str, tuple[Hashable, Hashable]]]) -> None:
    """Refuse labels of one batch that differ in (shape, grid); each comes with its frame."""
    first_of: dict[tuple[Hashable, Hashable], str] = {}
    for token, place in places:
        first_of.setdefault(place, token)
    if len(first_of) > 1:
        listed = "; ".join(f"frame {token} has {shape} on {grid}" for (shape, grid), token in first_of.items())
        raise ValueError(f"{what} of one batch must lie on one grid: {listed}")


def _points_inside(annotations: Annotations) -> np.ndarray:
    return annotations.num_lidar_points + annotations.num_radar_points

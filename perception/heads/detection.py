"""3D object detection by centres (Yin et al., Center-based 3D Object Detection and Tracking, CVPR 2021, section 4).

A heat map for each class says where objects are; at each peak the numbers of the box are read off. Suppression among
neighbours is by ground-rectangle overlap for large things and by distance for small ones.

Letters: B frames, K classes, T tasks (groups of classes that share box numbers), A attributes, Y X cells, N boxes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.perception.heads.agents import agents_of
from bevstack.perception.heads.box_numbers import BOX_CHANNELS, box_terms
from bevstack.perception.heads.detection_decode import (
    AttributeRule,
    Candidates,
    DecodeSettings,
    frame_candidates,
    kept_detections,
)
from bevstack.perception.heads.heatmap_targets import CenterTargets, encode_boxes
from bevstack.types.batch import Labels
from bevstack.types.bev import BevFeatures, BevGrid
from bevstack.types.context import Agents
from bevstack.types.scene import Detections


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionOutput:
    """Raw output of the centre head."""

    heatmap: Float[Tensor, "B K Y X"]
    """Logits that an object of the class has its centre in the cell."""
    boxes: Float[Tensor, "B T R Y X"]
    """Box numbers of each task, channels as in `BOX_CHANNELS`."""
    features: Float[Tensor, "B C Y X"]
    """What both branches start from."""
    grid: BevGrid


class CenterHead(nn.Module):
    """Finds objects on the grid.

    Args:
        in_channels: Channels of the features.
        shared_channels: Width of the convolution that both branches start from.
        branch_channels: Width of the hidden layer of each branch (for each task in the box branch).
        tasks: Groups of classes with box numbers of their own; None puts all classes into one group, which is faster
            and as good unless objects of different classes stand in one cell.
        min_points: Labels with fewer LiDAR and radar points are not learned.
        min_overlap: Width of the bumps, see `gaussian_radius_cells`.
        min_radius_cells: Least radius of a bump.
        attributes: "learned" from the network's logits, "speed" by rule from the predicted speed.
        score_threshold: Detections below are dropped.
        max_detections: At most so many for each frame; the nuScenes benchmark allows 500.
        nms_iou: Of two boxes of a class whose ground rectangles overlap by more, the better one stays.
        nms_radius_m: Class -> distance under which only the better of two boxes stays; instead of the overlap.

    Raises:
        ValueError: tasks that do not hold every class exactly once, unknown class names, or unknown `attributes`.
    """

    _task_of_class: Tensor

    def __init__(
        self,
        *,
        in_channels: int,
        shared_channels: int = 48,
        branch_channels: int = 48,
        tasks: Sequence[Sequence[str]] | None = None,
        min_points: int = 1,
        min_overlap: float = 0.1,
        min_radius_cells: float = 1.5,
        attributes: AttributeRule = "learned",
        score_threshold: float = 0.03,
        max_detections: int = 500,
        nms_iou: float = 0.2,
        nms_radius_m: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        tasks = [DETECTION_CLASSES] if tasks is None else tasks
        if sorted(name for task in tasks for name in task) != sorted(DETECTION_CLASSES):
            raise ValueError(f"tasks={[list(task) for task in tasks]} must hold each of {DETECTION_CLASSES} once")
        self.min_points = min_points
        self.min_overlap = min_overlap
        self.min_radius_cells = min_radius_cells
        self.decode_settings = DecodeSettings.make(
            attributes=attributes,
            score_threshold=score_threshold,
            max_detections=max_detections,
            nms_iou=nms_iou,
            nms_radius_m=nms_radius_m,
        )
        task_of_class = [next(t for t, task in enumerate(tasks) if name in task) for name in DETECTION_CLASSES]
        self.register_buffer("_task_of_class", torch.tensor(task_of_class), persistent=False)
        num_tasks, numbers = len(tasks), sum(BOX_CHANNELS.values())
        self.shared = _conv_norm_relu(in_channels, shared_channels)
        to_heat = nn.Conv2d(branch_channels, len(DETECTION_CLASSES), 1)
        # Start from a probability of 0.1 everywhere (Lin et al., Focal Loss, ICCV 2017, section 4.1).
        to_heat.bias = nn.Parameter(torch.full((len(DETECTION_CLASSES),), -2.19))
        self.heat_branch = nn.Sequential(_conv_norm_relu(shared_channels, branch_channels), to_heat)
        self.box_branch = nn.Sequential(
            _conv_norm_relu(shared_channels, num_tasks * branch_channels),
            nn.Conv2d(num_tasks * branch_channels, num_tasks * numbers, 1, groups=num_tasks),
        )
        self._num_tasks = num_tasks
        self.agent_channels = shared_channels

    def forward(self, bev: BevFeatures) -> DetectionOutput:
        """Logits and box numbers for every cell."""
        shared = self.shared(bev.data)
        return DetectionOutput(
            heatmap=self.heat_branch(shared),
            boxes=self.box_branch(shared).unflatten(1, (self._num_tasks, -1)),
            features=shared,
            grid=bev.grid,
        )

    def targets(self, labels: Labels, grid: BevGrid) -> CenterTargets:
        """Labels in this head's terms."""
        return encode_boxes(
            labels,
            grid,
            num_classes=len(DETECTION_CLASSES),
            min_overlap=self.min_overlap,
            min_radius_cells=self.min_radius_cells,
            min_points=self.min_points,
        )

    def loss(self, output: DetectionOutput, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Terms "heatmap", "offset", "height", "size", "yaw", "velocity", "attribute", each a mean over boxes.

        The heat map has the penalty-reduced focal loss of CornerNet (section 3.2); the box numbers have L1, summed over
        the numbers of the term; attributes have cross entropy. Unknown velocities and attributes do not count.
        """
        targets = self.targets(labels, output.grid)
        predicted = self._at_centers(output.boxes, targets)
        heatmap = focal_loss(output.heatmap.float(), targets.heatmap, len(targets.cell_index))
        return {"heatmap": heatmap, **box_terms(predicted, targets)}

    @torch.no_grad()
    def decode(self, output: DetectionOutput) -> list[Detections]:
        """Detections of each frame in `ego`, best score first."""
        return [kept_detections(candidates, self.decode_settings) for candidates in self._candidates(output)]

    def context(self, output: DetectionOutput) -> dict[str, Agents]:
        """The features at the centres of the detections, for motion and planning."""
        candidates = self._candidates(output)
        at_peaks, probabilities = (
            [maps[frame].flatten(1).mT[found.cell] for frame, found in enumerate(candidates)]
            for maps in (output.features, output.heatmap.detach().float().sigmoid())
        )
        return {"agents": agents_of(at_peaks, probabilities, candidates, self.decode_settings)}

    @torch.no_grad()
    def _candidates(self, output: DetectionOutput) -> list[Candidates]:
        """The peaks of each frame."""
        return [
            frame_candidates(
                output.heatmap[frame].float().sigmoid(),
                output.boxes[frame].float(),
                output.grid,
                self._task_of_class,
                self.decode_settings,
            )
            for frame in range(len(output.heatmap))
        ]

    def _at_centers(self, boxes: Float[Tensor, "B T R Y X"], targets: CenterTargets) -> dict[str, Tensor]:
        """Predicted numbers (N, ...) at the centre cells of the targets, of the task that each class belongs to."""
        rows, columns = boxes.shape[-2:]
        frame, cell = targets.cell_index // (rows * columns), targets.cell_index % (rows * columns)
        task = self._task_of_class[targets.class_index]
        values = boxes.flatten(-2)[frame, task, :, cell].float()  # (N, R)
        return dict(zip(BOX_CHANNELS, values.split(tuple(BOX_CHANNELS.values()), dim=1), strict=True))


def focal_loss(
    logits: Float[Tensor, "B K Y X"], heatmap: Float[Tensor, "B K Y X"], num_objects: int
) -> Float[Tensor, ""]:
    """Penalty-reduced focal loss, alpha = 2, beta = 4 (CornerNet, equation 1), divided by the number of objects."""
    log_p, log_q = F.logsigmoid(logits), F.logsigmoid(-logits)
    p = log_p.exp()
    at_center = (1 - p) ** 2 * log_p * (heatmap == 1)
    elsewhere = p**2 * log_q * (1 - heatmap) ** 4  # zero at centres
    return -(at_center + elsewhere).sum() / max(num_objects, 1)


def _conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels, eps=1e-3),
        nn.ReLU(inplace=True),
    )

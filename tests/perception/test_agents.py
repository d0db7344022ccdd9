import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID

from bevstack.perception.heads.detection import CenterHead
from bevstack.perception.heads.detection_queries import DetectionReadout, QueryDetections
from bevstack.perception.heads.joint_decoder import JointDecoder
from bevstack.perception.heads.joint_types import Decoded, Stem
from bevstack.perception.heads.map_segmentation import MapReadout
from bevstack.types import BevFeatures
from bevstack.types.context import Agents, MapBelief
from bevstack.types.scene import Detections


def make_readout(**changes: object) -> DetectionReadout:
    return DetectionReadout(**{"channels": 8, "in_channels": 6, "num_queries": 20, "branch_channels": 8, **changes})


def bev(data: torch.Tensor) -> BevFeatures:
    return BevFeatures(data=data, valid=torch.ones((len(data), 1, 32, 32), dtype=torch.bool), grid=SMALL_GRID)


def read(readout: DetectionReadout, features: torch.Tensor) -> QueryDetections:
    """The readout right behind its stem, as if the decoder changed nothing."""
    queries = readout.queries(Stem(features=features, bev=bev(features)))
    scale = torch.ones_like(features)
    return readout(Decoded(queries=queries, features=queries.features, bev=features, task_scale=scale, grid=SMALL_GRID))


def check_same(agents: Agents, found: list[Detections]) -> None:
    """Row by row the same objects, then padding."""
    assert agents.mask.sum(dim=1).tolist() == [len(frame) for frame in found]
    for row, frame in enumerate(found):
        count = len(frame)
        assert agents.mask[row, :count].all()
        np.testing.assert_array_equal(agents.boxes_ego[row, :count].numpy(), frame.boxes.rows)
        np.testing.assert_array_equal(agents.class_index[row, :count].numpy(), frame.boxes.class_index)
        np.testing.assert_array_equal(agents.scores[row, :count].numpy(), frame.scores)
        assert not agents.boxes_ego[row, count:].any() and not agents.features[row, count:].any()


@pytest.mark.parametrize("settings", [{"score_threshold": 0.0}, {"score_threshold": 0.012}, {"nms_iou": 0.05}])
def test_agent_n_of_the_query_readout_is_detection_n(settings: dict) -> None:
    readout = make_readout(**settings).eval()
    output = read(readout, 3 * torch.randn(2, 8, 32, 32))
    agents = readout.context(output)["agents"]
    check_same(agents, readout.decode(output))
    assert agents.features.shape[-1] == readout.agent_channels
    for row in agents.features[1][agents.mask[1]]:
        assert (output.features[1] == row).all(dim=1).any()


def test_agent_n_of_the_centre_head_is_detection_n() -> None:
    head = CenterHead(in_channels=6, shared_channels=8, branch_channels=8, score_threshold=0.11, max_detections=30)
    features = torch.randn(2, 6, 32, 32)
    features[1] = 0.0  # finds nothing or little: ragged
    output = head.eval()(bev(features))
    agents, found = head.context(output)["agents"], head.decode(output)
    check_same(agents, found)
    assert agents.features.shape[-1] == head.agent_channels
    centre = found[0].boxes.rows[0, :2]
    column, row = ((centre + 12.8) / 0.8).astype(int)
    near = output.features[0, :, max(0, row - 3) : row + 4, max(0, column - 3) : column + 4].flatten(1).mT
    assert (near == agents.features[0, 0]).all(dim=1).any()


def test_frames_in_which_nothing_is_found_hand_on_padding_alone() -> None:
    readout = make_readout(score_threshold=0.99).eval()
    agents = readout.context(read(readout, torch.zeros(2, 8, 32, 32)))["agents"]
    assert agents.features.shape == (2, 1, 8) and not agents.mask.any()


def test_gradients_flow_through_the_features_of_agents_and_nothing_else() -> None:
    readout = make_readout(score_threshold=0.0)
    features = torch.randn(1, 8, 32, 32, requires_grad=True)
    agents = readout.context(read(readout, features))["agents"]
    assert agents.features.requires_grad
    assert not any(part.requires_grad for part in (agents.boxes_ego, agents.scores, agents.class_probabilities))
    agents.features.sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0


def test_the_joint_decoder_hands_on_what_its_tasks_do() -> None:
    decoder = JointDecoder(
        in_channels=6,
        channels=8,
        layers=1,
        heads=2,
        points=2,
        feedforward=8,
        readouts={
            "detection": lambda **sizes: make_readout(**sizes, score_threshold=0.0),
            "map": lambda **sizes: MapReadout(**sizes, map_grid=SMALL_GRID, strips=4, attention_heads=2),
        },
    ).eval()
    output = decoder(bev(torch.randn(2, 6, 32, 32)))
    handed = decoder.context(output)
    assert set(handed) == {"agents", "map"} and decoder.agent_channels == 8
    check_same(handed["agents"], [parts[0] for parts in decoder.decode(output)])
    belief = handed["map"]
    assert isinstance(belief, MapBelief) and belief.grid == SMALL_GRID and not belief.probabilities.requires_grad
    np.testing.assert_array_equal(belief.probabilities[1].numpy(), decoder.decode(output)[1][1].probabilities)

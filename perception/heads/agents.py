"""What a detection head hands on to motion and planning: its objects as vectors, in the order of its detections.

Agent n of a frame is detection n of the same frame, so that whatever is said of agents belongs to detections without
any search. Letters: B frames, A agents (padded), N candidates, C channels, K classes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bevstack.perception.heads.detection_decode import Candidates, DecodeSettings, kept_rows
from bevstack.types.context import Agents


def agents_of(
    features: Sequence[Float[Tensor, "_ C"]],
    class_probabilities: Sequence[Float[Tensor, "_ K"]],
    candidates: Sequence[Candidates],
    settings: DecodeSettings,
) -> Agents:
    """The candidates that become detections, best first, padded to the frame that has most (at least one row).

    Args:
        features: For each frame the vectors of its candidates; gradients flow back into them.
        class_probabilities: Likewise.
        candidates: Of each frame.
        settings: What is kept, as for decoding.
    """
    kept = [
        torch.from_numpy(kept_rows(frame, settings)).to(vectors.device)
        for frame, vectors in zip(candidates, features, strict=True)
    ]
    counts = torch.tensor([len(rows) for rows in kept], device=features[0].device)
    width = max(1, int(counts.max()))

    def padded(parts: Sequence[Tensor]) -> Tensor:
        chosen = [part[rows] for part, rows in zip(parts, kept, strict=True)]
        room = features[0].new_zeros((width, *chosen[0].shape[1:]), dtype=chosen[0].dtype)
        return pad_sequence([*chosen, room], batch_first=True)[:-1]

    return Agents(
        features=padded(features),
        boxes_ego=padded([frame.rows.detach() for frame in candidates]),
        class_index=padded([frame.class_index for frame in candidates]),
        class_probabilities=padded([each.detach() for each in class_probabilities]),
        scores=padded([frame.scores.detach() for frame in candidates]),
        mask=torch.arange(width, device=counts.device) < counts[:, None],
    )

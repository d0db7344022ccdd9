"""What a language gate costs at run time: nothing without text, and how much with it.

    OMP_NUM_THREADS=1 python benchmarks/language_gate.py
    python benchmarks/language_gate.py --experiment lidar_small --runs 30

One frame of a synthetic surround scene through the whole model of an experiment, decoding included: without the module,
with it but without a cue, and with a cue in each of the three forms. Before timing, the outputs without a cue are
compared bit for bit; after it, the model with the module but without a cue must be within 2 % of the one without.
"""

import argparse
import copy
from dataclasses import replace
from functools import partial

import common
import torch
from model_step import make_batch

from bevstack.build import build_model, compose
from bevstack.fusion.language_gate import FORMS, LanguageGate
from bevstack.model import DrivingModel
from bevstack.types import Batch

EMBEDDING_DIM = 384
MAX_OVERHEAD = 0.02


def gated(model: DrivingModel, form: str) -> DrivingModel:
    """The same model with a gate between backbone and heads."""
    twin = copy.deepcopy(model)
    channels = model.fuser.out_channels if model.backbone is None else model.backbone.out_channels
    twin.language = LanguageGate(in_channels=channels, embedding_dim=EMBEDDING_DIM, form=form)
    return twin.eval()


def with_cue(batch: Batch) -> Batch:
    """Each frame with a cue of this very instant."""
    size = batch.batch_size
    embedding = torch.nn.functional.normalize(torch.randn(size, EMBEDDING_DIM), dim=1)
    mask = torch.ones(size, dtype=torch.bool)
    return replace(batch, cue_embedding=embedding, cue_mask=mask, cue_age_s=torch.zeros(size))


@torch.inference_mode()
def estimate(model: DrivingModel, batch: Batch) -> None:
    """One inference, decoding included."""
    model.decode(model(batch), batch)


@torch.inference_mode()
def assert_equal_without_text(plain: DrivingModel, told: DrivingModel, batch: Batch) -> None:
    """Every tensor of every head, bit for bit."""
    ours, theirs = told(batch), plain(batch)
    for name, output in theirs.items():
        for field in output.__dataclass_fields__:
            value = getattr(output, field)
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, getattr(ours[name], field)), f"{name}.{field} differs without text"


def main() -> None:
    """Compare, time, and hold the mode without text to its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="fusion_small")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = compose([f"experiment={arguments.experiment}"])
    size = config.input.image_size
    batch, _ = make_batch(1, height=size.height, width=size.width, num_sweeps=config.input.num_sweeps)
    plain = build_model(config, pretrained=False).eval()
    told = {form: gated(plain, form) for form in FORMS}
    for model in told.values():
        assert_equal_without_text(plain, model, batch)
    candidates = {
        "without the module": partial(estimate, plain, batch),
        "bevstack no text": partial(estimate, told["residual"], batch),
        **{f"bevstack {form}": partial(estimate, model, with_cue(batch)) for form, model in told.items()},
    }
    result = common.compare(
        "language_gate",
        f"{arguments.experiment}, inference and decoding of one frame",
        candidates,
        baseline="without the module",
        equality="equal bits of every output without text",
        runs=arguments.runs,
    )
    overhead = 1 / result.ratios["bevstack no text"] - 1
    result = replace(result, equality=f"{result.equality}, where the module costs {overhead:+.1%}")
    common.report([result])
    assert overhead < MAX_OVERHEAD, f"without text the module costs {overhead:.1%} of the time, the limit is 2 %"


if __name__ == "__main__":
    main()

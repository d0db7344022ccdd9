"""Captioners by name, as the command line and the configuration give it."""

from bevstack.perception.language.captioner import FRONT, FRONT_THREE, Captioner
from bevstack.perception.language.describer import ORACLE_NAME, OracleDescriber
from bevstack.perception.language.hugging_face import HuggingFaceCaptioner
from bevstack.perception.language.prompts import DEFAULT_PROMPTS
from bevstack.perception.language.zero_shot import ZeroShotCaptioner
from bevstack.types.errors import did_you_mean

ZERO_SHOT = "zero-shot"
"""The default: works without a network."""


def captioner_of(
    name: str = ZERO_SHOT,
    *,
    cameras: tuple[str, ...] | None = None,
    prompts: str = DEFAULT_PROMPTS,
    device: str = "cpu",
) -> Captioner:
    """The captioner of this name.

    Args:
        name: "zero-shot"; "describer-oracle", which reads ground truth; or "hf:OWNER/NAME" (or "hf:FOLDER") for a model
            of the Hugging Face hub.
        cameras: whose pictures are described; None for the captioner's own choice, the front one or the front three.
        prompts: version of the questions, for models that are asked.
        device: where networks run.

    Raises:
        ValueError: no captioner is called so. DatasetError: its weights cannot be had.
    """
    if name == ZERO_SHOT:
        return ZeroShotCaptioner(cameras=cameras or FRONT_THREE, device=device)
    if name == ORACLE_NAME:
        return OracleDescriber(cameras=cameras or FRONT_THREE)
    kind, _, model = name.partition(":")
    if kind == "hf" and model:
        return HuggingFaceCaptioner(model=model, prompts=prompts, cameras=cameras or FRONT, device=device)
    known = (ZERO_SHOT, ORACLE_NAME, "hf:OWNER/NAME")
    raise ValueError(f"captioner={name!r} must be one of {', '.join(known)}{did_you_mean(name, known[:2])}")

"""Captions by any image-to-text model or chat model with vision of the Hugging Face hub, by name or from a folder.

Models that take instructions (Qwen-VL, SmolVLM, LLaVA, ...) have a chat template and are asked through it; the others
(BLIP, BLIP-2, ...) get "Question: ... Answer:" as the beginning of a text that they go on with. Words are chosen
greedily, so that the same picture gives the same caption.

The processors of some chat models also read videos, and for that alone need torchvision. Pictures are all that is asked
for here: without torchvision the processor is put together from its picture and text halves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from bevstack.perception.language.captioner import FRONT, VIEW_OF_CAMERA, pictures_of
from bevstack.perception.language.hub import load_from_hub, transformers_package
from bevstack.perception.language.prompts import DEFAULT_PROMPTS, prompts_of
from bevstack.types.errors import DatasetError
from bevstack.types.frame import Frame


class HuggingFaceCaptioner:
    """Asks a vision-language model about the pictures of a frame. A `Captioner`.

    Args:
        model: `owner/name` of the hub, such as "Salesforce/blip2-opt-2.7b", "Qwen/Qwen2-VL-2B-Instruct" or
            "HuggingFaceTB/SmolVLM-500M-Instruct"; or a folder as `save_pretrained` leaves it.
        prompts: version of the questions, see `prompts.PROMPTS`.
        cameras: whose pictures it is asked about, one after the other.
        max_new_tokens: at most this long an answer to each question.
        device: where it runs.
        dtype: of its weights: "auto" as published, or the name of a torch dtype.

    Raises:
        DatasetError: the package is absent, or the model cannot be had.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        model: str,
        prompts: str = DEFAULT_PROMPTS,
        cameras: tuple[str, ...] = FRONT,
        max_new_tokens: int = 60,
        device: str = "cpu",
        dtype: str = "auto",
    ) -> None:
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens} must be at least 1")
        self._prompts = prompts_of(prompts)
        package = transformers_package("a captioner of the Hugging Face hub")
        self._processor = _processor(package, model)
        self._model = load_from_hub(_model_class(package), model, dtype=dtype).eval().to(device)
        self._device, self._max_new_tokens = device, max_new_tokens
        self.name, self.prompt_version, self.cameras = f"hf:{model}", self._prompts.version, tuple(cameras)

    @property
    def takes_instructions(self) -> bool:
        """Whether the model is asked through a chat template."""
        return _chat_template(self._processor) is not None

    def caption(self, frame: Frame) -> str:
        """Its answers, as one text; those about other cameras than the front one begin with where they look."""
        answers = []
        for picture in pictures_of(frame, self.cameras):
            image = Image.fromarray(np.ascontiguousarray(picture.rgb))
            view = "" if picture.name == "CAM_FRONT" else f"{VIEW_OF_CAMERA.get(picture.name, picture.name)}: "
            found = [self._ask(image, question) for question in self._prompts.questions]
            answers += [f"{view}{answer}" for answer in dict.fromkeys(found) if answer]
        return " ".join(answer if answer.endswith((".", "!", "?")) else f"{answer}." for answer in answers)

    def _ask(self, image: Image.Image, question: str) -> str:
        return self.ask([image], f"{self._prompts.role} {question}" if self.takes_instructions else question)

    @torch.inference_mode()
    def ask(self, images: Sequence[Image.Image], text: str) -> str:
        """Its answer to any text about some pictures; models that take no instructions see the first one only."""
        shown = list(images) if self.takes_instructions else list(images[:1])
        inputs = self._processor(images=shown, text=[self._prompt(text, len(shown))], return_tensors="pt")
        inputs = inputs.to(self._device, self._model.dtype)  # floating-point tensors only change their dtype
        tokens = self._model.generate(**inputs, max_new_tokens=self._max_new_tokens, do_sample=False)
        asked = inputs["input_ids"]
        # Decoders hand back the question with the answer, encoder-decoder models the answer alone.
        if tokens.shape[1] >= asked.shape[1] and bool((tokens[:, : asked.shape[1]] == asked).all()):
            tokens = tokens[:, asked.shape[1] :]
        answer = self._processor.batch_decode(tokens, skip_special_tokens=True)[0]
        return " ".join(answer.split())

    def _prompt(self, text: str, num_images: int) -> str:
        template = _chat_template(self._processor)
        if template is None:
            return f"Question: {text} Answer:"
        content = [*({"type": "image"} for _ in range(num_images)), {"type": "text", "text": text}]
        return self._processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
        )


def _chat_template(processor: Any) -> str | None:
    template = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
    return template.get("default") if isinstance(template, Mapping) else template


def _model_class(package: Any) -> Any:
    """The class that makes text from pictures; it had another name before transformers 4.46."""
    found = getattr(package, "AutoModelForImageTextToText", None) or getattr(package, "AutoModelForVision2Seq", None)
    if found is None:
        raise DatasetError(f"transformers {package.__version__} has no models of pictures and text: install >= 4.50")
    return found


def _processor(package: Any, model: str) -> Any:
    """The model's processor; without its video half where torchvision is absent."""
    try:
        return load_from_hub(package.AutoProcessor, model)
    except DatasetError as error:
        if not isinstance(error.__cause__, ImportError) or "video" not in str(error.__cause__).lower():
            raise
    config = load_from_hub(package.AutoConfig, model)
    mapping = package.models.auto.processing_auto.PROCESSOR_MAPPING_NAMES
    processor_class = getattr(package, mapping[config.model_type])
    settings, _ = processor_class.get_processor_dict(model)
    known = {name: settings[name] for name in ("image_seq_len", "chat_template") if name in settings}
    try:
        return _pictures_only(processor_class)(
            image_processor=load_from_hub(package.AutoImageProcessor, model),
            tokenizer=load_from_hub(package.AutoTokenizer, model),
            video_processor=None,
            **known,
        )
    except ImportError as error:
        raise DatasetError(f"model {model} needs another package: {error} (pip install 'bevstack[cues]')") from error


def _pictures_only(processor_class: Any) -> Any:
    """The processor class, content with no video half."""

    class PicturesOnly(processor_class):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name == "video_processor" and argument is None:
                return type(None)
            return super().check_argument_for_proper_class(argument_name, argument)

    PicturesOnly.__name__ = processor_class.__name__
    return PicturesOnly

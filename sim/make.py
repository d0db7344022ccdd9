"""`bevstack sim make`: scenes as independent jobs, gathered into one data set in nuScenes format.

Everything is written to `OUT.partial` and renamed at the end, so a data set is either whole or not there. A scene that
is finished leaves its table rows in `OUT.partial/.scenes`; a second call with the same arguments takes them up and
goes on. Each scene depends on (preset, seed, index) alone: the bytes do not depend on workers or threads.
"""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from bevstack.data.occupancy import OCCUPANCY_FORMATS, OccupancyFormat
from bevstack.sim.nuscenes_tables import LOCATIONS, replace_file, semantic_prior_path, write_tables
from bevstack.sim.nuscenes_writer import SceneRequest, SceneWriter, canvas_edge
from bevstack.sim.world.nuscenes_map import write_basemap, write_map_expansion, write_semantic_prior
from bevstack.sim.world.presets import WORLD_FORMAT_VERSION, WorldPreset, preset_content, preset_hash
from bevstack.types.errors import DatasetError

logger = logging.getLogger(__name__)

WORLD_FILE = "world.json"
BASEMAP_PIXEL_M = 0.2
MAX_SCENES = 1000
"""Scene names have four digits, from scene-9000 on."""
_POLL_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSummary:
    """What was made."""

    root: Path
    scenes: int
    keyframes: int
    annotations: int
    preset_hash: str
    seconds: float


def make_worlds(
    out: Path,
    *,
    scenes: int,
    seed: int,
    preset: WorldPreset,
    keyframes_per_scene: int | None = None,
    workers: int = 1,
    occupancy: Sequence[OccupancyFormat] = (),
    overwrite: bool = False,
    show_progress: bool = True,
) -> WorldSummary:
    """Make a data set in nuScenes format, version `v1.0-world`, split `worlds`.

    Args:
        out: folder to make.
        scenes: number of scenes; scene i is the same whatever this is.
        seed: of everything drawn.
        preset: the distribution of scenes.
        keyframes_per_scene: at 2 Hz; the preset's own number when None.
        workers: processes; the result does not depend on it.
        occupancy: formats in which to write occupancy labels as well ("occ3d", "openoccupancy").
        overwrite: replace a data set that an earlier call made at `out`.
        show_progress: draw a progress bar.

    Raises:
        ValueError: an argument is out of range.
        DatasetError: `out` is in use by something else.
        OSError: a file could not be written (full disk, no permission).
    """
    started = time.monotonic()
    keyframes = preset.keyframes if keyframes_per_scene is None else keyframes_per_scene
    _check_arguments(scenes, seed, keyframes, workers)
    unknown = set(occupancy) - set(OCCUPANCY_FORMATS)
    if unknown:
        raise ValueError(f"occupancy formats are {', '.join(OCCUPANCY_FORMATS)}, not {', '.join(sorted(unknown))}")
    formats = tuple(layout for layout in OCCUPANCY_FORMATS if layout in occupancy)
    out = Path(out)
    _check_target(out, overwrite)
    record = world_record(preset, seed=seed, scenes=scenes, keyframes=keyframes, occupancy=formats)
    partial = _open_partial(out, record, overwrite)
    requests = [
        SceneRequest(index=index, seed=seed, keyframes=keyframes, preset=preset, occupancy=formats)
        for index in range(scenes)
    ]
    missing = [request for request in requests if not _rows_file(partial, request).exists()]
    if len(missing) < scenes:
        logger.info("taking up %d finished scenes in %s", scenes - len(missing), partial)
    finished = (scenes - len(missing)) * keyframes
    with tqdm(
        total=scenes * keyframes, initial=finished, unit="keyframe", disable=not show_progress, desc="worlds"
    ) as bar:
        _run_jobs(partial, requests, missing, workers, bar)
    tables = [orjson.loads(_rows_file(partial, request).read_bytes()) for request in requests]
    write_tables(partial, tables)
    replace_file(partial / WORLD_FILE, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    shutil.rmtree(partial / ".scenes")
    _move_into_place(partial, out)
    return WorldSummary(
        root=out,
        scenes=scenes,
        keyframes=scenes * keyframes,
        annotations=sum(len(rows["sample_annotation"]) for rows in tables),
        preset_hash=preset_hash(preset),
        seconds=time.monotonic() - started,
    )


def world_record(
    preset: WorldPreset, *, seed: int, scenes: int, keyframes: int, occupancy: tuple[OccupancyFormat, ...]
) -> dict[str, Any]:
    """Content of `world.json`: all that decides the bytes of the data set."""
    record = {
        "format_version": WORLD_FORMAT_VERSION,
        "preset": preset_content(preset),
        "preset_hash": preset_hash(preset),
        "seed": seed,
        "scenes": scenes,
        "keyframes_per_scene": keyframes,
        "with_occupancy": "occ3d" in occupancy,
        "note": "Simulated. Scores on worlds are regression figures and not nuScenes results.",
    }
    return record | ({"occupancy": list(occupancy)} if set(occupancy) - {"occ3d"} else {})


def _check_arguments(scenes: int, seed: int, keyframes: int, workers: int) -> None:
    if not 1 <= scenes <= MAX_SCENES:
        raise ValueError(f"scenes must be 1 to {MAX_SCENES}, got {scenes}")
    if not 1 <= keyframes <= 40:
        raise ValueError(f"keyframes must be 1 to 40 (a nuScenes scene has 40), got {keyframes}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DatasetError(f"{out} is a file: name a folder for the data set")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise DatasetError(f"{out} is not empty: choose another folder, or replace it with --force")
    if not (out / WORLD_FILE).is_file():
        raise DatasetError(f"{out} holds no {WORLD_FILE}, so it was not made by 'sim make': --force will not delete it")


def _partial_folder(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _rows_file(partial: Path, request: SceneRequest) -> Path:
    return partial / ".scenes" / f"{request.name}.json"


def _open_partial(out: Path, record: dict[str, Any], overwrite: bool) -> Path:
    """The folder to work in; holds the finished scenes of an interrupted call with the same arguments."""
    partial = _partial_folder(out)
    note = partial / ".scenes" / "arguments.json"
    content = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    if partial.exists():
        if note.is_file() and note.read_bytes() == content:
            return partial
        if not overwrite:
            raise DatasetError(
                f"{partial} holds an unfinished data set of other arguments: call with those to finish it, "
                "delete it, or use --force"
            )
        shutil.rmtree(partial)
    note.parent.mkdir(parents=True)
    replace_file(note, content)
    return partial


def _move_into_place(partial: Path, out: Path) -> None:
    """Rename the finished data set; an older one goes away only when the new one is whole."""
    if out.exists() and not any(out.iterdir()):
        out.rmdir()
    if not out.exists():
        os.replace(partial, out)
        return
    old = out.with_name(out.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old)


def make_scene(partial: Path, request: SceneRequest, on_keyframe: Callable[[], None] = lambda: None) -> None:
    """Write one scene's files, then, as its mark of completion, its table rows."""
    rows = SceneWriter(partial, request).write(on_keyframe)
    replace_file(_rows_file(partial, request), orjson.dumps(rows))


def make_maps(partial: Path, location_index: int, requests: list[SceneRequest]) -> None:
    """Write vector map, semantic prior and base map of one location."""
    location = LOCATIONS[location_index]
    edge = canvas_edge(len(requests), location_index)
    towns = [(request.town(), request.offset) for request in requests if request.location == location]
    for folder in ("maps/expansion", "maps/basemap"):
        (partial / folder).mkdir(parents=True, exist_ok=True)
    write_map_expansion(partial / f"maps/expansion/{location}.json", towns, edge)
    write_semantic_prior(partial / semantic_prior_path(location), towns, edge)
    write_basemap(partial / f"maps/basemap/{location}.png", towns, edge, BASEMAP_PIXEL_M)


def _run_jobs(
    partial: Path, requests: list[SceneRequest], missing: list[SceneRequest], workers: int, bar: tqdm
) -> None:
    if workers == 1:
        for request in missing:
            make_scene(partial, request, lambda: bar.update() and None)
        for location_index in range(len(LOCATIONS)):
            make_maps(partial, location_index, requests)
        return
    context = get_context("spawn")
    done, stop = context.Value("l", 0), context.Event()
    with (
        _single_threaded(),
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(done, stop)) as pool,
    ):
        futures: set[Future[None]] = {pool.submit(_scene_job, partial, request) for request in missing}
        futures |= {pool.submit(make_maps, partial, k, requests) for k in range(len(LOCATIONS))}
        try:
            _watch(futures, done, bar)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _watch(futures: set[Future[None]], done: "Synchronized[int]", bar: tqdm) -> None:
    """Draw progress until all jobs are done; the first failure ends it."""
    before = 0
    while futures:
        finished, futures = wait(futures, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in finished:
            future.result()
        now = done.value
        if now > before:
            bar.update(now - before)
        before = now


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Child processes inherit one thread each; the pool is the parallelism."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_worker_state: dict[str, Any] = {}


def _start_worker(done: "Synchronized[int]", stop: Event) -> None:
    """Runs once in every worker process."""
    import cv2

    cv2.setNumThreads(1)
    # The parent handles Ctrl-C and tells the workers to stop; when it is gone they must not stay.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker_state.update(done=done, stop=stop)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _scene_job(partial: Path, request: SceneRequest) -> None:
    def on_keyframe() -> None:
        with _worker_state["done"].get_lock():
            _worker_state["done"].value += 1
        if _worker_state["stop"].is_set():
            raise InterruptedError("stopped by the main process")

    make_scene(partial, request, on_keyframe)

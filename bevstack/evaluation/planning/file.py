"""Planning results as columns and as a JSON file that any system can write.

    {"meta": {"format": "bevstack-planning-1", "uses_ego_status": false, "command_source": "none", "frame": "ego",
              "step_s": 0.5},
     "results": {"<sample token>": {"poses": [[x, y, yaw], ... six rows], "command": "left"}}}

* `poses`: where the vehicle is 0.5, 1.0, ..., 3.0 s after the frame, in metres and radians; rows of two (x, y) or
  three numbers, the same throughout the file.
* `frame`: "ego" - the rear axle along the axes of `ego` (x forward, y left); or "lidar" - the LiDAR's origin along the
  LiDAR's axes (x right, y forward), as UniAD, VAD and ST-P3 give their plans. They differ by the mounting of the LiDAR
  and in turns by its lever: say which it is.
* `uses_ego_status`: whether the model was given speed, acceleration, yaw rate, steering or its own past track.
* `command_source`: "none", "route" (a navigation that does not know the future) or "future" (the released command,
  which leaks it: see `ego_future`).
* `command` of a frame may be left out or null, and so may `source` ("learned", "candidate", "fallback_stop": who made
  the plan) and `reasons` (texts: why other plans were rejected). No figure depends on them; reports show them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import orjson
from jaxtyping import Float64, Int8

from bevstack.evaluation.planning.ego_future import PLAN_STEP_S, PLAN_STEPS
from bevstack.evaluation.planning.origin import PlanOrigin, said_origins
from bevstack.evaluation.predictions.submission import write_json
from bevstack.planning.resampling import plan_poses
from bevstack.types.errors import did_you_mean
from bevstack.types.trajectory import COMMANDS, Plan, Route

FORMAT = "bevstack-planning-1"
PlanFrame = Literal["ego", "lidar"]
CommandSource = Literal["none", "route", "future"]
NO_COMMAND = -1

_COMMAND_INDEX = {command.value: index for index, command in enumerate(COMMANDS)}
_STEP_TOLERANCE_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanColumns:
    """Plans of F samples."""

    sample_tokens: tuple[str, ...]
    poses: Float64[np.ndarray, "F 6 3"]
    """x, y in metres and yaw in radians in `frame`; yaw is NaN throughout where the system gives none."""
    command_index: Int8[np.ndarray, " F"]
    """Index into `bevstack.types.COMMANDS`, -1 where there was no command."""
    uses_ego_status: bool
    command_source: CommandSource = "none"
    frame: PlanFrame = "ego"
    origins: tuple[PlanOrigin, ...] = ()
    """Who made each plan and why; empty where nothing is said of any."""

    def __post_init__(self) -> None:
        frames = len(self.sample_tokens)
        if self.poses.shape != (frames, PLAN_STEPS, 3) or self.command_index.shape != (frames,):
            raise ValueError(
                f"poses {self.poses.shape} and commands {self.command_index.shape} of {frames} samples must be "
                f"({frames}, {PLAN_STEPS}, 3) and ({frames},)"
            )
        if self.origins and len(self.origins) != frames:
            raise ValueError(f"{len(self.origins)} origins of {frames} plans: give one for each plan, or none")
        if self.frame not in get_args(PlanFrame) or self.command_source not in get_args(CommandSource):
            raise ValueError(
                f"frame={self.frame!r} and command_source={self.command_source!r} must be one of "
                f"{get_args(PlanFrame)} and {get_args(CommandSource)}"
            )
        if not np.isfinite(self.poses[..., :2]).all():
            row = int(np.argmin(np.isfinite(self.poses[..., :2]).all(axis=(1, 2))))
            raise ValueError(f"poses of sample {self.sample_tokens[row]} are not finite: {self.poses[row].tolist()}")
        if np.isnan(self.poses[..., 2]).any() and not np.isnan(self.poses[..., 2]).all():
            raise ValueError("yaw must be known everywhere or nowhere (NaN)")

    @property
    def has_yaw(self) -> bool:
        """Whether the system says where the vehicle points."""
        return bool(len(self.poses)) and bool(np.isfinite(self.poses[..., 2]).all())

    def take(self, rows: Sequence[int]) -> "PlanColumns":
        """Some samples, by their row."""
        return replace(
            self,
            sample_tokens=tuple(self.sample_tokens[row] for row in rows),
            poses=self.poses[rows],
            command_index=self.command_index[rows],
            origins=said_origins([self.origins[row] for row in rows]) if self.origins else (),
        )

    def in_order_of(self, sample_tokens: Sequence[str], source: str = "the plans") -> "PlanColumns":
        """The same plans in another order of samples.

        Raises:
            ValueError: a sample has no plan, a plan is for no sample, or a sample has two.
        """
        row_of = {token: row for row, token in enumerate(self.sample_tokens)}
        if len(row_of) != len(self.sample_tokens):
            twice = next(token for row, token in enumerate(self.sample_tokens) if row_of[token] != row)
            raise ValueError(f"{source}: sample {twice} has two plans")
        missing = [token for token in sample_tokens if token not in row_of]
        if missing:
            raise ValueError(f"{source}: {len(missing)} samples of the split have no plan, the first is {missing[0]}")
        if len(row_of) > len(sample_tokens):
            wanted = set(sample_tokens)
            extra = next(token for token in self.sample_tokens if token not in wanted)
            raise ValueError(f"{source}: sample {extra} is not in the split")
        rows = [row_of[token] for token in sample_tokens]
        return self.take(rows)


def plan_columns(token: str, plan: Plan, route: Route | None, *, uses_ego_status: bool) -> PlanColumns:
    """The plan of one frame. Planners of a session know the route where there is one."""
    command = NO_COMMAND if route is None else COMMANDS.index(route.command)
    return PlanColumns(
        sample_tokens=(token,),
        poses=plan_poses(plan).astype(np.float64)[None],
        command_index=np.array([command], np.int8),
        uses_ego_status=uses_ego_status,
        command_source="route",
        origins=(PlanOrigin(source=plan.source, reasons=plan.reasons),),
    )


def write_planning(path: str | Path, plans: PlanColumns) -> Path:
    """Write the file, complete or not at all. Yaw is left out where it is not known.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    columns = 3 if plans.has_yaw else 2
    meta = {
        "format": FORMAT,
        "uses_ego_status": plans.uses_ego_status,
        "command_source": plans.command_source,
        "frame": plans.frame,
        "step_s": PLAN_STEP_S,
    }
    results = {
        token: {
            "poses": plans.poses[row, :, :columns].tolist(),
            "command": None if plans.command_index[row] < 0 else COMMANDS[plans.command_index[row]].value,
            **(plans.origins[row].record() if plans.origins else {}),
        }
        for row, token in enumerate(plans.sample_tokens)
    }
    return write_json(path, {"meta": meta, "results": results})


def read_planning(path: str | Path) -> PlanColumns:
    """Read the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut short or a field is missing or wrong; the message names file, sample and field.
    """
    path = Path(path)
    try:
        content = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path} is not complete JSON ({error}); NaN is not allowed either") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("meta", "results")):
        raise ValueError(f"{path} is no planning file: it needs 'meta' and 'results' (sample token -> plan)")
    meta = _checked_meta(path, content["meta"])
    results: Mapping[str, Any] = content["results"]
    rows = [_checked_poses(path, token, plan) for token, plan in results.items()]
    widths = {len(row[0]) for row in rows}
    if len(widths) > 1:
        odd = next(token for token, row in zip(results, rows, strict=True) if len(row[0]) != len(rows[0][0]))
        raise ValueError(f"{path}: sample {odd}, field 'poses': 2 and 3 numbers a step are mixed in the file")
    poses = np.full((len(rows), PLAN_STEPS, 3), np.nan)
    if rows:
        poses[:, :, : widths.pop()] = np.array(rows, np.float64)
    commands = [_checked_command(path, token, plan) for token, plan in results.items()]
    return PlanColumns(
        sample_tokens=tuple(results),
        poses=poses,
        command_index=np.array(commands, np.int8).reshape(-1),
        origins=said_origins([_checked_origin(path, token, plan) for token, plan in results.items()]),
        **meta,
    )


def _checked_meta(path: Path, meta: dict[str, Any]) -> dict[str, Any]:
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path}: meta field 'format' is {meta.get('format')!r}, not '{FORMAT}'")
    if not isinstance(meta.get("uses_ego_status"), bool):
        raise ValueError(
            f"{path}: meta field 'uses_ego_status' is {meta.get('uses_ego_status')!r}: say true if the model was given "
            "its own speed, acceleration, steering or past track, else false"
        )
    step_s = meta.get("step_s", PLAN_STEP_S)
    if not isinstance(step_s, int | float) or not math.isclose(step_s, PLAN_STEP_S, abs_tol=_STEP_TOLERANCE_S):
        raise ValueError(f"{path}: meta field 'step_s' is {step_s!r}; the protocols are defined for {PLAN_STEP_S} s")
    choices: dict[str, tuple[str, ...]] = {"frame": get_args(PlanFrame), "command_source": get_args(CommandSource)}
    for field, allowed in choices.items():
        if meta.get(field) not in allowed:
            hint = did_you_mean(str(meta.get(field)), allowed)
            raise ValueError(f"{path}: meta field '{field}' is {meta.get(field)!r}, not one of {allowed}{hint}")
    return {name: meta[name] for name in ("uses_ego_status", "command_source", "frame")}


def _checked_poses(path: Path, token: str, plan: Any) -> list[list[float]]:
    poses = plan.get("poses") if isinstance(plan, dict) else None
    where = f"{path}: sample {token}, field 'poses'"
    if not isinstance(poses, list) or len(poses) != PLAN_STEPS:
        count = f"{len(poses)} steps" if isinstance(poses, list) else repr(poses)
        raise ValueError(f"{where}: {count} where {PLAN_STEPS} steps of {PLAN_STEP_S} s are needed")
    for step, pose in enumerate(poses):
        if not isinstance(pose, list) or len(pose) not in (2, 3) or len(pose) != len(poses[0]):
            raise ValueError(f"{where}: step {step} is {pose!r}; every step needs x, y or x, y, yaw")
        for number in pose:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ValueError(f"{where}: step {step} is {pose!r}; numbers are needed")
    return poses


def _checked_command(path: Path, token: str, plan: dict[str, Any]) -> int:
    command = plan.get("command")
    if command is None:
        return NO_COMMAND
    if command not in _COMMAND_INDEX:
        raise ValueError(
            f"{path}: sample {token}, field 'command' is {command!r}, not one of {', '.join(_COMMAND_INDEX)} or null"
        )
    return _COMMAND_INDEX[command]


def _checked_origin(path: Path, token: str, plan: dict[str, Any]) -> PlanOrigin:
    try:
        return PlanOrigin.of_record(plan)
    except ValueError as error:
        raise ValueError(f"{path}: sample {token}, {error}") from error

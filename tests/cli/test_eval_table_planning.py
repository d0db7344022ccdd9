"""What the printed table says of plans beside their headline."""

from typing import Any

from bevstack.cli.eval_table import table


def values(number: float | None) -> dict[str, float | None]:
    return dict.fromkeys(("at_1s", "at_2s", "at_3s", "mean"), number)


def plan(l2_m: float, known_m: float, turning_m: float | None, *, uses_ego_status: bool) -> dict[str, Any]:
    """Numbers of `plan/uniad` as `metrics.json` has them."""
    numbers = {"l2_m": values(l2_m), "l2_m_known": values(known_m), "num_frames": 9, "uses_ego_status": uses_ego_status}
    turning = {
        **numbers,
        "l2_m": values(0.0),
        "l2_m_known": values(turning_m),
        "num_frames": 0 if turning_m is None else 4,
    }
    return {**numbers, "turning": turning}


def lines_of(mine: dict[str, Any], straight: dict[str, Any]) -> list[str]:
    row = {"planning": {"plan/uniad": {**mine, "baselines": {"constant_velocity": straight}}}}
    data = {"version": "v1.0-tiny", "split": "val", "num_frames": 9, "num_frames_of_split": 9}
    return table({"data": data, "protocols": ["plan/uniad"], "results": {"mine": row}, "not_scored": {}}).splitlines()


def test_a_flattered_error_has_the_corrected_one_and_the_turning_frames_below_it() -> None:
    lines = lines_of(plan(0.2, 0.5, 0.7, uses_ego_status=False), plan(1.1, 2.5, 3.5, uses_ego_status=True))
    first = next(place for place, line in enumerate(lines) if line.startswith("plan/uniad"))
    own, straight, corrected, own_known, _, turning, own_turning, _ = lines[first + 1 : first + 9]
    assert own.split()[0] == "mine" and "0.200" in own and "ego status" not in own
    assert "ego status" in straight and "1.100" in straight
    assert corrected.strip() == "all frames, over the steps that exist" and "0.500" in own_known
    assert turning.strip() == "turning frames (4), over the steps that exist" and "0.700" in own_turning


def test_nothing_is_said_twice_where_all_steps_exist_and_no_frame_turns() -> None:
    same = plan(0.2, 0.2, None, uses_ego_status=False)
    text = "\n".join(lines_of(same, same))
    assert "steps that exist" not in text and "turning" not in text and text.count("0.200") == 8

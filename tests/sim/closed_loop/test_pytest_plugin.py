"""Scenario files as pytest items."""

import subprocess
import sys

import pytest

CONFTEST = "from bevstack.sim.closed_loop.pytest_plugin import *  # noqa: F403\n"
SCENARIO = """
name: standing
duration_s: 4
road: {kind: straight}
ego: {start: {kind: lane, lane: ahead_1, station_m: 20}, speed_mps: 8}
actors:
- name: target
  class_name: car
  start: {kind: relative, ahead_m: 25}
danger: {kind: collision, actor: target}
expectations: [{kind: no_collision}, {kind: stays_in_lane}]
"""


def run_pytest(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.mark.slow
def test_every_expectation_is_an_item_and_the_danger_is_one_too(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "standing.yaml").write_text(SCENARIO)
    result = run_pytest(tmp_path, "--drive-agent", "constant-velocity", "--junit-xml", str(tmp_path / "out.xml"))
    assert "1 failed, 2 passed" in result.stdout
    assert "no_collision: touched target" in result.stdout
    assert "Traceback" not in result.stdout
    assert (tmp_path / "out.xml").is_file()


@pytest.mark.slow
def test_a_file_with_a_fault_is_named_with_its_line(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "standing.yaml").write_text(SCENARIO.replace("duration_s", "durationn_s"))
    result = run_pytest(tmp_path)
    assert result.returncode != 0
    assert "duration_s" in result.stdout

"""Suites: results that do not depend on interruptions, one folder a run, JUnit, and deaths that stop nothing."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.dying_agent import DyingAgent

from bevstack.sim.closed_loop.agents.constant_velocity import ConstantVelocityAgent
from bevstack.sim.closed_loop.jobs import jobs_of
from bevstack.sim.closed_loop.junit import write_junit
from bevstack.sim.closed_loop.log_file import drive_hash, read_log
from bevstack.sim.closed_loop.one_run import DriveSetting, drive_job
from bevstack.sim.closed_loop.run_folder import log_path, read_summary
from bevstack.sim.closed_loop.suite import AgentSource, run_suite

QUICK = DriveSetting(measures_progress=False)
BLIND = AgentSource(name="constant-velocity", make=ConstantVelocityAgent)


def test_a_suite_taken_up_again_gives_the_results_of_one_that_went_through(tmp_path):
    jobs = jobs_of("smoke", limit=3)
    run_suite(jobs, BLIND, tmp_path / "whole", setting=QUICK)
    run_suite(jobs[:1], BLIND, tmp_path / "parts", setting=QUICK)
    seen = []
    run_suite(jobs, BLIND, tmp_path / "parts", setting=QUICK, on_done=lambda job, is_new: seen.append(is_new))
    assert seen == [False, True, True]
    results = [(tmp_path / name / "results.parquet").read_bytes() for name in ("whole", "parts")]
    assert results[0] == results[1]


def test_results_have_a_row_for_every_run_with_scores_expectations_hash_and_versions(tmp_path):
    jobs = jobs_of("smoke", limit=2)
    run_suite(jobs, BLIND, tmp_path, setting=QUICK)
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert [row["run"] for row in rows] == [job.key for job in jobs]
    assert rows[0]["ending"] == "collision"
    assert (rows[0]["passed"], rows[0]["expect_no_collision"], rows[0]["expect_min_ttc"]) == (False, False, None)
    assert "no_collision" in rows[0]["not_met"]
    assert rows[0]["carla_driving_score"] < 100
    assert len(rows[0]["hash"]) == 64
    assert rows[0]["version_metrics"].startswith("closed-loop/")
    log = read_log(log_path(tmp_path, jobs[0]))
    assert drive_hash(log) == rows[0]["hash"]
    assert log.ending == rows[0]["ending"]


def test_a_folder_of_another_agent_is_refused(tmp_path):
    jobs = jobs_of("CCRs")
    run_suite(jobs, BLIND, tmp_path, setting=QUICK)
    other = AgentSource(name="constant-velocity", make=ConstantVelocityAgent, description={"checkpoint": "demo"})
    with pytest.raises(ValueError, match="another agent"):
        run_suite(jobs, other, tmp_path, setting=QUICK)


def test_junit_counts_failures_and_errors_apart(tmp_path):
    jobs = jobs_of("smoke", limit=2)
    run_suite(jobs, BLIND, tmp_path, setting=QUICK)
    summaries = [read_summary(tmp_path, job) for job in jobs]
    summaries[1] |= {"passed": False, "ending": "agent_error", "remark": "act: RuntimeError: \x00 <broken>"}
    write_junit(summaries, tmp_path / "out.xml", suite="smoke")
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert root.tag == "testsuites"
    assert sum(int(suite.get("tests")) for suite in root) == 2
    assert sum(int(suite.get("errors")) for suite in root) == 1
    assert sum(int(suite.get("failures")) for suite in root) == 1
    for suite in root:
        # Order and attributes of the schema of Ant's JUnit task.
        tags = [child.tag for child in suite]
        assert tags[0] == "properties"
        assert tags[-2:] == ["system-out", "system-err"]
        assert set(tags[1:-2]) == {"testcase"}
        assert {"id", "package", "name", "timestamp", "hostname", "time"} <= set(suite.keys())
        for case in suite.iter("testcase"):
            assert len(case) <= 1
            assert set(case.keys()) == {"classname", "name", "time"}


def test_limit_spreads_over_the_suite_and_repeats_take_the_next_seeds():
    jobs = jobs_of("smoke", limit=3)
    assert [job.index for job in jobs] == [0, 6, 11]
    both = jobs_of("CCRs", seed=4, repeats=2)
    assert [job.seed for job in both] == [4, 5]
    assert len({job.key for job in both}) == len({job.fingerprint for job in both}) == 2


@pytest.mark.parametrize("name", ["CCRz", "smokey"])
def test_an_unknown_name_is_answered_with_what_there_is(name):
    with pytest.raises(ValueError, match="did you mean"):
        jobs_of(name)


def test_a_scenario_that_cannot_begin_is_a_named_failure(tmp_path):
    file = tmp_path / "wall.yaml"
    file.write_text(
        "name: wall\nroad: {kind: straight}\n"
        "ego: {start: {kind: lane, lane: ahead_1, station_m: 20}, speed_mps: 5}\n"
        "actors:\n- {name: wall, class_name: building, start: {kind: relative, ahead_m: 5}}\n"
        "expectations: [{kind: no_collision}]\n"
    )
    driven = drive_job(jobs_of(str(file))[0], ConstantVelocityAgent(), QUICK)
    assert driven.log.ending == "impossible"
    assert "inside of wall" in driven.log.remark
    assert not driven.passed
    assert np.isnan(driven.record["pdms"])


def test_the_same_job_has_the_same_hash_and_another_seed_another():
    one, same = (drive_job(jobs_of("CPNA-50")[0], ConstantVelocityAgent(), QUICK).hash for _ in range(2))
    other = drive_job(jobs_of("CPNA-50", seed=1)[0], ConstantVelocityAgent(), QUICK).hash
    assert one == same != other


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_run_alone(tmp_path):
    jobs = jobs_of("smoke", limit=3)
    run_suite(jobs, AgentSource(name="dying", make=DyingAgent), tmp_path / "dying", setting=QUICK, processes=2)
    endings = [read_summary(tmp_path / "dying", job)["ending"] for job in jobs]
    assert endings[0] == "agent_error"
    assert "agent_error" not in endings[1:]


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(tmp_path):
    jobs = jobs_of("smoke", limit=4)
    for processes in (1, 2):
        run_suite(jobs, BLIND, tmp_path / str(processes), setting=QUICK, processes=processes)
    assert (tmp_path / "1" / "results.parquet").read_bytes() == (tmp_path / "2" / "results.parquet").read_bytes()


def test_run_folders_hold_scenario_seed_and_versions(tmp_path):
    job = jobs_of("CCRs", seed=3)[0]
    source = AgentSource(name="constant-velocity", make=ConstantVelocityAgent, description={"data_hash": "abc"})
    run_suite([job], source, tmp_path, setting=QUICK)
    folder = Path(tmp_path) / "runs" / job.key
    assert {file.name for file in folder.iterdir()} == {"scenario.yaml", "log.npz", "run.json", "row.parquet"}
    summary = read_summary(tmp_path, job)
    assert (summary["seed"], summary["agent"]["data_hash"]) == (3, "abc")
    assert set(summary["versions"]) >= {"bevstack", "metrics", "log", "numpy"}
    assert jobs_of(str(folder / "scenario.yaml"), seed=3)[0].scenario == job.scenario

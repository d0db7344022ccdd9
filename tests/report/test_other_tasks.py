from bevstack.report.other_tasks import other_sections


def metrics() -> dict:
    epa = {"groups": {"car": {"epa": 0.4, "min_ade_m": 1.5}, "pedestrian": {"epa": 0.2, "min_ade_m": None}}}
    still = {"groups": {"car": {"epa": 0.1, "min_ade_m": 3.0}, "pedestrian": {"epa": 0.0, "min_ade_m": 2.0}}}
    plan = {"l2_m": {"at_1s": {"mean": 0.5}, "at_2s": {"mean": 1.0}}, "baselines": {"constant_velocity": {}}}
    return {
        "results": {
            "fusion": {
                "nds": 0.5,
                "map": {"map/ap": {"mean_ap": 0.4}},
                "motion": {"motion/epa-uniad": {**epa, "baselines": {"copy last": still}}},
                "tracking": {"track/nusc-2020": {"amota": 0.3}},
                "planning": {"plan/uniad": plan},
            },
            "lidar": {"nds": 0.4, "motion": {"motion/epa-uniad": still}},
        }
    }


def test_each_task_has_its_protocols_with_systems_before_baselines() -> None:
    tracking, motion, planning = other_sections(metrics())
    assert (tracking.task, motion.task, planning.task) == ("tracking", "motion", "planning")
    (table,) = motion.tables
    assert table.figures == ("epa car", "epa pedestrian", "min ade car", "min ade pedestrian")
    assert table.rows == (
        ("fusion", False, (0.4, 0.2, 1.5, None)),
        ("lidar", False, (0.1, 0.0, 3.0, 2.0)),
        ("copy last", True, (0.1, 0.0, 3.0, 2.0)),
    )
    assert tracking.tables[0].figures == ("amota",) and tracking.tables[0].rows == (("fusion", False, (0.3,)),)


def test_a_baseline_that_lacks_a_figure_has_a_blank() -> None:
    table = other_sections(metrics())[2].tables[0]
    assert table.figures == ("l2 1s", "l2 2s")
    assert table.rows == (("fusion", False, (0.5, 1.0)), ("constant_velocity", True, (None, None)))


def test_without_results_there_is_no_section() -> None:
    assert other_sections(None) == [] and other_sections({"results": {"fusion": {"nds": 0.1}}}) == []

"""Background traffic by SUMO; what needs libsumo is skipped where it is not installed."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.sim.agents.sumo_traffic import SumoTraffic, sumo_angle, yaw_of_sumo
from bevstack.sim.agents.view import RoadUser

NET = """<net version="1.16">
  <location netOffset="0.00,0.00" convBoundary="0.00,0.00,600.00,0.00" origBoundary="0.00,0.00,600.00,0.00" projParameter="!"/>
  <edge id="e" from="a" to="b" priority="1">
    <lane id="e_0" index="0" speed="13.90" length="600.00" shape="0.00,-1.60 600.00,-1.60"/>
  </edge>
  <junction id="a" type="dead_end" x="0.00" y="0.00" incLanes="" intLanes="" shape="0.00,0.00 0.00,-3.20"/>
  <junction id="b" type="dead_end" x="600.00" y="0.00" incLanes="e_0" intLanes="" shape="600.00,-3.20 600.00,0.00"/>
</net>"""  # noqa: E501
ROUTES = """<routes>
  <vType id="car" length="4.5" width="1.8" sigma="0"/>
  <route id="r" edges="e"/>
  <vehicle id="one" type="car" route="r" depart="0" departPos="50" departSpeed="10"/>
</routes>"""
CONFIG = (
    """<configuration><input><net-file value="n.net.xml"/><route-files value="r.rou.xml"/></input></configuration>"""
)


@pytest.fixture
def config(tmp_path):
    for name, text in (("n.net.xml", NET), ("r.rou.xml", ROUTES), ("c.sumocfg", CONFIG)):
        (tmp_path / name).write_text(text)
    return tmp_path / "c.sumocfg"


def test_without_libsumo_the_error_says_what_to_install(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "libsumo", None)
    with pytest.raises(ImportError, match="pip install libsumo"):
        SumoTraffic(config)


@given(st.floats(-math.pi, math.pi, exclude_max=True))
def test_angles_survive_the_round_trip(yaw):
    turn = yaw_of_sumo(sumo_angle(yaw)) - yaw
    assert math.remainder(turn, 2 * math.pi) == pytest.approx(0.0, abs=1e-9)


def test_north_east_and_west_are_the_known_angles():
    assert [sumo_angle(yaw) for yaw in (math.pi / 2, 0.0, math.pi)] == pytest.approx([0.0, 90.0, 270.0])


def test_a_car_drives_along_its_edge_and_stops_behind_the_ego(config):
    pytest.importorskip("libsumo")
    ego = RoadUser(x_m=200.0, y_m=-1.6, yaw_rad=0.0, speed_mps=0.0, length_m=4.0, width_m=1.8)
    with SumoTraffic(config, seed=1) as traffic:
        users = [traffic.step(ego)["one"] for _ in range(400)]
    assert users[0].y_m == pytest.approx(-1.6) and users[0].yaw_rad == pytest.approx(0.0, abs=1e-6)
    assert users[0].length_m == pytest.approx(4.5) and users[20].x_m > users[0].x_m + 10
    assert users[-1].speed_mps < 0.1
    assert 0.5 < ego.x_m - users[-1].x_m - 4.25 < 5.0


def test_the_same_seed_plays_the_same_and_a_process_has_room_for_one(config):
    pytest.importorskip("libsumo")

    def played():
        with SumoTraffic(config, seed=3, origin=(10.0, 0.0)) as traffic:
            with pytest.raises(RuntimeError, match="one simulation"):
                SumoTraffic(config)
            return [traffic.step(None) for _ in range(50)]

    assert played() == played()


def test_a_config_that_does_not_exist_is_refused(config):
    pytest.importorskip("libsumo")
    with pytest.raises(ValueError, match="must be an existing"):
        SumoTraffic(config.with_name("none.sumocfg"))

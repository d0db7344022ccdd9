"""OpenDRIVE: known shapes, widths, links and faults."""

import math

import numpy as np
import pytest
from scipy.special import fresnel

from bevstack.sim.openscenario.opendrive import roads_of
from bevstack.sim.openscenario.opendrive_lanes import lay_network
from bevstack.sim.openscenario.plan_view import PlanElement, ReferenceLine
from bevstack.sim.openscenario.xml_nodes import parse_xml
from bevstack.sim.scenario.road_specs import FurtherLane, OpenDriveRoads
from bevstack.sim.scenario.roads import build_roads

LANES = """<lanes>{offset}<laneSection s="0">
  <left><lane id="1" type="driving"><link>{left}</link><width sOffset="0" a="3.0" b="0" c="0" d="0"/>
    <roadMark sOffset="0" type="solid"/></lane></left>
  <center><lane id="0" type="none"/></center>
  <right><lane id="-1" type="driving"><link>{right}</link><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane>
    <lane id="-2" type="sidewalk"><width sOffset="0" a="2" b="0" c="0" d="0"/></lane></right>
</laneSection></lanes>"""


def road(name, geometry, *, length, junction="-1", link="", left="", right="", offset="", rule="RHT"):
    lanes = LANES.format(left=left, right=right, offset=offset)
    return (f'<road id="{name}" length="{length}" junction="{junction}" rule="{rule}"><link>{link}</link>'
            f"<planView>{geometry}</planView>{lanes}</road>")  # fmt: skip


def geometry(shape, *, s=0.0, x=0.0, y=0.0, heading=0.0, length=100.0):
    return f'<geometry s="{s}" x="{x}" y="{y}" hdg="{heading}" length="{length}">{shape}</geometry>'


def roads(*texts):
    return roads_of(parse_xml(f"<OpenDRIVE>{''.join(texts)}</OpenDRIVE>", "test.xodr"))


def test_a_clothoid_ends_where_the_fresnel_integrals_say():
    length, last = 80.0, 1 / 30
    element = PlanElement(start_m=0.0, x=0.0, y=0.0, heading=0.0, length_m=length, curvature_end=last)
    scale = math.sqrt(math.pi * length / last)
    y, x = fresnel(length / scale)
    assert element.poses(np.array((length,)))[0] == pytest.approx((scale * x, scale * y, length * last / 2), abs=1e-9)


def test_a_clothoid_between_equal_curvatures_is_an_arc():
    nearly = PlanElement(start_m=0.0, x=1.0, y=2.0, heading=0.3, length_m=60.0, curvature=0.02,
                         curvature_end=0.02 + 1e-13)  # fmt: skip
    arc = PlanElement(start_m=0.0, x=1.0, y=2.0, heading=0.3, length_m=60.0, curvature=0.02, curvature_end=0.02)
    stations = np.linspace(0.0, 60.0, 13)
    np.testing.assert_allclose(nearly.poses(stations), arc.poses(stations), atol=1e-9)


def test_an_arc_of_a_quarter_circle_ends_beside_its_centre():
    arc = '<arc curvature="0.05"/>'
    line = roads(road("0", geometry(arc, length=10 * math.pi), length=10 * math.pi)).road("0").line
    assert line.poses(np.array((10 * math.pi,)))[0] == pytest.approx((20.0, 20.0, math.pi / 2))


def test_beyond_its_ends_a_reference_line_goes_straight_on():
    line = ReferenceLine(elements=(PlanElement(start_m=0.0, x=0.0, y=0.0, heading=math.pi / 2, length_m=5.0),))
    np.testing.assert_allclose(line.poses(np.array((-2.0, 7.0)))[:, :2], [(0.0, -2.0), (0.0, 7.0)], atol=1e-12)


def test_chords_stay_within_a_millimetre():
    element = PlanElement(start_m=0.0, x=0.0, y=0.0, heading=0.0, length_m=15.0, curvature=0.1, curvature_end=0.1)
    stations = ReferenceLine(elements=(element,)).stations(0.0, 15.0)
    middle = element.poses((stations[1:] + stations[:-1]) / 2)[:, :2]
    points = element.poses(stations)[:, :2]
    assert np.hypot(*((points[1:] + points[:-1]) / 2 - middle).T).max() < 1.1e-3


@pytest.mark.parametrize("spelling", ["normalized", "arcLength"])
def test_a_parametric_cubic_passes_its_end_point_with_its_slope(spelling):
    # u = 50 p, v = 5 p^2 over p in 0..1, in either spelling.
    factor = 1.0 if spelling == "normalized" else 1 / 50
    shape = (f'<paramPoly3 pRange="{spelling}" aU="0" bU="{50 * factor}" cU="0" dU="0" aV="0" bV="0" '
             f'cV="{5 * factor**2}" dV="0"/>')  # fmt: skip
    line = roads(road("0", geometry(shape, length=50.0), length=50)).road("0").line
    assert line.poses(np.array((50.0,)))[0] == pytest.approx((50.0, 5.0, math.atan2(10.0, 50.0)))


def test_a_lane_lies_beside_the_lane_offset_and_its_inner_lanes():
    offset = '<laneOffset s="0" a="0.5" b="0.01" c="0" d="0"/>'
    one = roads(road("0", geometry("<line/>"), length=100, offset=offset)).road("0")
    assert one.lane_pose(-1, 50.0, 0.0) == pytest.approx((50.0, 1.0 - 1.75, 0.0))
    assert one.lane_pose(-2, 0.0, 0.25) == pytest.approx((0.0, 0.5 - 3.5 - 1.0 + 0.25, 0.0))
    assert one.lane_pose(1, 0.0, 0.0) == pytest.approx((0.0, 0.5 + 1.5, math.pi))


def test_traffic_of_left_lanes_comes_towards_unless_it_keeps_left():
    names = {}
    for rule in ("RHT", "LHT"):
        network = lay_network(roads(road("0", geometry("<line/>"), length=100, rule=rule)))
        names[rule] = {n: network.network.lanes[i].centerline[0, 0] for n, i in network.lane_names.items()}
    assert names == {"RHT": {"0/0/1": 100.0, "0/0/-1": 0.0}, "LHT": {"0/0/1": 0.0, "0/0/-1": 100.0}}


def test_areas_have_the_widths_of_their_lanes():
    network = lay_network(roads(road("0", geometry("<line/>"), length=100))).network
    assert network.drivable.area == pytest.approx(650.0)
    assert [area.area for area in network.walkways] == pytest.approx([200.0])
    assert len(network.road_dividers) == 1 and not network.lane_dividers


def test_linked_roads_follow_each_other_in_both_directions():
    ahead = ('<successor elementType="road" elementId="b" contactPoint="start"/>',
             '<predecessor elementType="road" elementId="a" contactPoint="end"/>')  # fmt: skip
    network = lay_network(roads(
        road("a", geometry("<line/>"), length=100, link=ahead[0], left='<successor id="1"/>',
             right='<successor id="-1"/>'),
        road("b", geometry('<arc curvature="0.01"/>', x=100.0), length=100, link=ahead[1],
             left='<predecessor id="1"/>', right='<predecessor id="-1"/>'),
    ))  # fmt: skip
    lanes, names = network.network.lanes, network.lane_names
    assert lanes[names["a/0/-1"]].successors == (names["b/0/-1"],)
    assert lanes[names["b/0/1"]].successors == (names["a/0/1"],)
    assert lanes[names["b/0/-1"]].predecessors == (names["a/0/-1"],)


def test_roads_without_links_are_joined_where_their_ends_meet():
    network = lay_network(roads(road("a", geometry("<line/>"), length=100),
                                road("b", geometry("<line/>", x=100.0), length=100)))  # fmt: skip
    names = network.lane_names
    assert network.network.lanes[names["a/0/-1"]].successors == (names["b/0/-1"],)


def test_a_connecting_road_is_a_connector_with_its_turn():
    into, out = '<successor elementType="junction" elementId="j"/>', '<predecessor id="-1"/>'
    junction = ('<junction id="j"><connection id="0" incomingRoad="a" connectingRoad="c" contactPoint="start">'
                '<laneLink from="-1" to="-1"/></connection></junction>')  # fmt: skip
    network = lay_network(roads(
        road("a", geometry("<line/>"), length=100, link=into),
        road("c", geometry('<arc curvature="0.1"/>', x=100.0, length=5 * math.pi), length=5 * math.pi, junction="j",
             right=out), junction,
    ))  # fmt: skip
    connector = network.network.lanes[network.lane_names["c/0/-1"]]
    assert network.network.lanes[network.lane_names["a/0/-1"]].successors == (connector.index,)
    assert (connector.is_connector, connector.turn) == (True, "left")
    assert network.network.segment_is_intersection == (False, True)


def test_a_scenario_takes_place_on_a_file_with_a_further_lane(tmp_path):
    file = tmp_path / "road.xodr"
    file.write_text(f"<OpenDRIVE>{road('0', geometry('<line/>'), length=100)}</OpenDRIVE>")
    further = FurtherLane(name="bend", x_m=(0.0, 10.0, 20.0), y_m=(0.0, 0.0, 5.0))
    built = build_roads(OpenDriveRoads(file=str(file), further_lanes=(further,)))
    assert built.way("0/0/-1").length_m == pytest.approx(100.0)
    assert built.lane("bend").length_m == pytest.approx(10 + math.hypot(10, 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<OpenDRIVE/>", "line 1, OpenDRIVE: it has no road"),
        ("<a/>", "must be OpenDRIVE"),
        (f"<OpenDRIVE>\n{road('0', geometry('<bow/>'), length=1)}</OpenDRIVE>", r"line 2, .*bow.*not known; there are"),
        (f"<OpenDRIVE>{road('0', geometry('<arc/>'), length=1)}</OpenDRIVE>", "attribute curvature is missing"),
        (f"<OpenDRIVE>{road('0', geometry('<line/>', length='x'), length=1)}</OpenDRIVE>", "length='x' must be a fin"),
    ],
)
def test_a_fault_names_line_element_and_remedy(text, message):
    with pytest.raises(ValueError, match=message):
        roads_of(parse_xml(text, "test.xodr"))


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"no file 'nowhere.xodr'"):
        build_roads(OpenDriveRoads(file="nowhere.xodr"))

"""The public OpenSCENARIO files: all are read, and all run."""

from pathlib import Path

import pytest

from bevstack.sim.openscenario.importing import import_xosc
from bevstack.sim.openscenario.playing import play
from bevstack.sim.openscenario.xml_nodes import read_xml

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "openscenario"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the public OpenSCENARIO files are not beside the checkout")


def scenarios(folder: str) -> list[Path]:
    paths = sorted((FOLDER / folder).rglob("*.xosc"))
    return [path for path in paths if read_xml(path).child("Catalog") is None]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["alks", "ncap"])
def test_every_file_is_read(folder):
    paths = scenarios(folder)
    assert len(paths) > 20
    for path in paths:
        import_xosc(path)


@pytest.mark.parametrize("name", ["CCRs_50kph", "CPNA_25_50kph", "CCFtap_10kph_30kph"])
def test_an_unprotected_vehicle_hits_the_target(name):
    path = next((FOLDER / "ncap").rglob(f"{name}.xosc"))
    imported = import_xosc(path)
    ending = play(imported, 60.0)
    assert set(imported.collides_with) <= set(ending.contacts)
    assert ending.end_s is not None

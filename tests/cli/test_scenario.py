"""`bevstack scenario`."""

import pytest

from bevstack.cli.scenario import run
from bevstack.sim.scenario.catalogue import load_scenario, read_scenario
from bevstack.sim.scenario.variations import concrete


def test_list_names_scenarios_with_their_variations_and_what_is_left_out(capsys):
    assert run(["list", "ncap2026"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if "/CPNA-50" in line)
    assert "12 variations" in row
    assert "ego_kmh 10..60 by 10" in row
    assert "not included: CPRA" in out
    assert "r157" not in out


def test_list_refuses_an_unknown_folder():
    with pytest.raises(ValueError, match="did you mean ncap2026"):
        run(["list", "ncap2025"])


def test_show_prints_what_can_be_read_back(capsys):
    assert run(["show", "CCRs"]) == 0
    assert read_scenario(capsys.readouterr().out, "shown") == load_scenario("CCRs")


def test_show_with_values_prints_the_concrete_scenario(capsys):
    assert run(["show", "CCRs", "--set", "ego_kmh=40", "impact=0.25"]) == 0
    shown = read_scenario(capsys.readouterr().out, "shown")
    assert shown == concrete(load_scenario("CCRs"), {"ego_kmh": 40.0, "impact": 0.25})
    with pytest.raises(ValueError, match="NAME=NUMBER"):
        run(["show", "CCRs", "--set", "ego_kmh=fast"])


@pytest.mark.parametrize("name", ["CPNCO-50", "CCFtap", "InvadingTurn"])
def test_show_draws_a_picture(name, tmp_path, capsys):
    path = tmp_path / "picture.png"
    assert run(["show", name, "--png", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 5000


def test_check_names_faults_and_fails(tmp_path, capsys):
    good, bad, harmless = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "harmless.yaml"
    assert run(["show", "CMRs"]) == 0
    text = capsys.readouterr().out
    good.write_text(text)
    bad.write_text(text.replace("class_name: motorcycle", "class_name: motorcicle"))
    harmless.write_text(text.replace("impact - 0.5", "impact - 5"))
    assert run(["check", str(good)]) == 0
    assert "good, 15 variations tried" in capsys.readouterr().out
    assert run(["check", str(good), str(bad), str(harmless), str(tmp_path / "none.yaml")]) == 1
    out = capsys.readouterr().out
    assert "did you mean motorcycle" in out
    assert "touches nobody; it should hit target" in out
    assert "No such file" in out

"""XML with places for messages, and nothing that expands."""

import pytest

from bevstack.sim.openscenario.xml_nodes import parse_xml, read_xml


def test_a_node_knows_its_line_and_path():
    root = parse_xml('<a>\n <b name="one"/>\n <b/>\n <c><d/></c><c/></a>', "file.xosc")
    assert [(node.path, node.line) for node in root.walk()] == [
        ("a", 1), ("a/b[one]", 2), ("a/b[2]", 3), ("a/c", 4), ("a/c/d", 4), ("a/c[2]", 4),
    ]  # fmt: skip


def test_malformed_text_is_named_with_its_line():
    with pytest.raises(ValueError, match=r"file.xosc, line 3: not XML: mismatched tag"):
        parse_xml("<a>\n<b>\n</a>", "file.xosc")


@pytest.mark.parametrize("text", ["", "no xml"])
def test_what_is_no_xml_is_refused(text):
    with pytest.raises(ValueError, match="not XML"):
        parse_xml(text, "file.xosc")


def test_entities_are_refused_before_they_expand():
    bomb = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]>\n<a b="&y;"/>'
    with pytest.raises(ValueError, match="document type"):
        parse_xml(bomb, "file.xosc")
    with pytest.raises(ValueError, match="document type"):
        parse_xml('<!DOCTYPE a SYSTEM "file:///etc/hostname"><a/>', "file.xosc")


def test_endless_nesting_is_refused():
    with pytest.raises(ValueError, match="nested deeper than 200"):
        parse_xml("<a>" * 5000, "file.xosc")


def test_numbers_and_flags_are_checked():
    node = parse_xml('<a x="1e400" y="2.5" t="true" w="maybe"/>', "f")
    assert (node.number("y"), node.number("z", 7.0), node.flag("t"), node.flag("n")) == (2.5, 7.0, True, False)
    for look in (lambda: node.number("x"), lambda: node.number("z"), lambda: node.flag("w"), lambda: node.need("b")):
        with pytest.raises(ValueError, match="f, line 1, a: "):
            look()


def test_a_byte_order_mark_and_other_encodings_are_read(tmp_path):
    file = tmp_path / "x.xml"
    file.write_bytes("﻿<?xml version='1.0' encoding='utf-8'?><a n='ü'/>".encode())
    assert read_xml(file).text("n") == "ü"

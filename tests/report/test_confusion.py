"""The picture of a confusion matrix: shares of each true class, and nothing where nothing was counted."""

import re

import pytest

from bevstack.report.confusion import confusion_chart


def figures(svg: str) -> list[int]:
    return [int(text) for text in re.findall(r'class="figure"[^>]*>(\d+)<', svg)]


def test_every_row_is_written_as_per_cent_of_its_own_count():
    svg = confusion_chart("t", [[6, 2, 2], [0, 50, 0], [1, 1, 2]], ["a", "b", "c"])
    assert figures(svg) == [60, 20, 20, 100, 25, 25, 50]
    assert "a taken for c: 20.00 %" in svg


def test_classes_that_never_occur_have_a_column_and_no_row():
    svg = confusion_chart("t", [[3, 1], [0, 0]], ["a", "b"])
    assert figures(svg) == [75, 25]
    assert svg.count('text-anchor="end"') == 1 and svg.count("rotate(-50)") == 2


def test_shares_too_small_to_read_leave_their_cell_empty():
    assert figures(confusion_chart("t", [[999, 1], [0, 1]], ["a", "b"])) == [100, 100]


def test_names_are_escaped():
    assert "<b>" not in confusion_chart("<b>", [[1]], ["<b>"])


@pytest.mark.parametrize("counts", [[[1, 2]], [[1], [2]]])
def test_a_matrix_that_does_not_fit_the_names_is_refused(counts):
    with pytest.raises(ValueError, match="2 classes"):
        confusion_chart("t", counts, ["a", "b"])

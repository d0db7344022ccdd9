"""BLEU, ROUGE-L and CIDEr-D against values worked out by hand."""

from math import exp, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.evaluation.language.metrics import bleu, cider, rouge_l, score_texts, words

LEFT = words("The car turns left now.")
RIGHT = words("the car turns right now")


def test_words_are_lower_case_without_punctuation_and_objects_keep_their_coordinates() -> None:
    assert words("Keep going, at the SAME speed!") == ("keep", "going", "at", "the", "same", "speed")
    assert words("It's a brake-light; don't stop") == ("it", "'s", "a", "brake-light", "do", "n't", "stop")
    assert words("<c1,CAM_BACK,1088.3,497.5>.") == ("<", "c1", "cam_back", ",1088.3,497.5", ">")
    assert words(" ... ") == ()


def test_bleu_multiplies_the_shares_of_right_runs_of_words() -> None:
    # Runs of one word 4 of 5, of two 2 of 4, of three 1 of 3, of four none.
    found = bleu([LEFT], [RIGHT])
    assert found[:3] == pytest.approx((4 / 5, sqrt(4 / 5 * 2 / 4), (4 / 5 * 2 / 4 * 1 / 3) ** (1 / 3)))
    assert found[3] == pytest.approx(0.0, abs=1e-3)


def test_bleu_counts_a_repeated_word_as_often_as_the_reference_has_it() -> None:
    assert bleu([words("the the the")], [words("the cat sat")])[0] == pytest.approx(1 / 3)


def test_bleu_of_an_answer_half_as_long_is_cut_by_e() -> None:
    assert bleu([words("the car")], [words("the car turns left")])[0] == pytest.approx(exp(-1))
    assert bleu([words("the car turns left now")], [words("the car")])[0] == pytest.approx(2 / 5)  # no reward


def test_bleu_is_counted_over_the_set_and_not_averaged() -> None:
    answers, references = [words("a b c d"), words("x")], [words("a b c d"), words("y")]
    assert bleu(answers, references)[0] == pytest.approx(4 / 5)


def test_rouge_weighs_recall_of_the_longest_common_subsequence() -> None:
    assert rouge_l([LEFT], [RIGHT]) == pytest.approx(4 / 5)
    # Precision 1 and recall 1/2, with beta squared 1.44.
    assert rouge_l([words("car left")], [words("the car turns left")]) == pytest.approx(2.44 * 0.5 / (0.5 + 1.44))
    assert rouge_l([words("left car")], [words("car left")]) == pytest.approx(0.5)
    assert rouge_l([LEFT, ()], [LEFT, RIGHT]) == pytest.approx(0.5)


def test_cider_weighs_words_by_their_rarity() -> None:
    references = [words("a b"), words("a c")]
    # "a" is in both and weighs nothing; there are no runs of three and four words.
    assert cider(references, references) == pytest.approx(10 * (1 + 1) / 4)
    assert cider([words("a d"), words("a c")], references) == pytest.approx(5 / 2)
    # "b" twice is clipped to once, against a longer vector.
    assert cider([words("b b"), words("q")], references) == pytest.approx(10 * 0.5 / 4 / 2)
    # Two words too long: the penalty exp(-4 / 72).
    long = 10 * (1 / 3 + 1 / sqrt(5)) / 4 * exp(-4 / 72)
    assert cider([words("a b b b"), ()], references) == pytest.approx(long / 2)


def test_a_single_pair_has_no_rare_words() -> None:
    assert cider([LEFT], [LEFT]) == 0.0


@given(st.lists(st.text(alphabet="abc ", min_size=1, max_size=30), min_size=2, max_size=6))
def test_no_answer_is_better_than_the_reference_itself(texts: list[str]) -> None:
    best, other = score_texts(texts, texts), score_texts(texts[::-1], texts)
    for a, b in zip((*best.bleu, best.rouge_l, best.cider), (*other.bleu, other.rouge_l, other.cider), strict=True):
        assert -1e-9 <= b <= a + 1e-6


def test_empty_answers_score_zero_and_unequal_numbers_are_refused() -> None:
    scores = score_texts(["", ""], ["a b c d", "e f g h"])
    assert scores.bleu == (0.0, 0.0, 0.0, 0.0) and scores.rouge_l == scores.cider == 0.0
    with pytest.raises(ValueError, match="1 answers for 2 references"):
        score_texts(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="at least one"):
        score_texts([], [])

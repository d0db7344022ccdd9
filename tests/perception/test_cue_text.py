"""Text of cues: what is no answer, what a clause claims, and left and right exchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.perception.language.answers import MAX_CHARACTERS, fault_of
from bevstack.perception.language.clauses import CROSSING, STOP_LINE, TRAFFIC_LIGHT, VEHICLES, clauses_of, joined
from bevstack.perception.language.mirror import mirrored_text
from bevstack.perception.language.prompts import DEFAULT_PROMPTS, PROMPTS, prompts_of

GOOD = (
    "A pedestrian crosses 12 m ahead from the right.",
    "cars ahead",
    "There are two cars parked on the left side of the street, and a cyclist rides ahead of us. The light is green.",
    "Watch the truck!",
)


@pytest.mark.parametrize("answer", GOOD)
def test_a_plain_english_answer_has_no_fault(answer: str) -> None:
    assert fault_of(answer) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("?!... ---", "senseless"),
        ("A car is ahead of us on the road. " * 60, "too long"),
        ("The car the car the car the car the car the car the car the car the car", "senseless"),
        ("<0x1F> {{{ }}} ## 0x00 the %%% ||| \\x00 ~~~ @@@ 12345 67890 $$$", "senseless"),
        ("前方有一辆卡车，右侧有行人正在过马路", "not English"),
        ("Ein Lastwagen steht direkt vor uns auf der Fahrbahn, und rechts gehen zwei Leute", "not English"),
        ("Un camion est garé devant nous et deux piétons traversent la rue à droite", "not English"),
        ("Hay un camion delante de nosotros y dos personas cruzan por la derecha ahora mismo", "not English"),
        ("qwe rty uio pas dfg", "not English"),
    ],
)
def test_an_answer_that_is_no_cue_is_named(answer: str, fault: str) -> None:
    assert fault_of(answer) == fault


def test_the_longest_answer_allowed_is_judged_by_its_words() -> None:
    words = [f"the car number {i} is on the left of the road" for i in range(200)]
    text = ". ".join(words)
    assert fault_of(text[:MAX_CHARACTERS]) != "too long"
    assert fault_of(text[: MAX_CHARACTERS + 1].rstrip() + "xx") == "too long"


@given(st.text(max_size=300))
def test_any_text_gets_a_verdict(text: str) -> None:
    assert fault_of(text) in (None, "empty", "too long", "not English", "senseless")


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("A car is on the left.", "A car is on the right."),
        ("LEFT, Right and left", "RIGHT, Left and right"),
        ("the leftmost, right-hand lane", "the rightmost, left-hand lane"),
        ("Give the tram right of way, then turn right.", "Give the tram right of way, then turn left."),
        ("bright copyright cleft", "bright copyright cleft"),
        ("", ""),
    ],
)
def test_the_mirrored_text_has_left_and_right_exchanged(text: str, mirrored: str) -> None:
    assert mirrored_text(text) == mirrored


@given(st.lists(st.sampled_from(["left", "Right", "car", "on the", "LEFT", "rightmost", "-", "."]), max_size=12))
def test_mirroring_twice_gives_the_text_back(words: list[str]) -> None:
    text = " ".join(words)
    assert mirrored_text(mirrored_text(text)) == text


def test_a_text_is_taken_apart_into_clauses() -> None:
    text = "There is a truck ahead, and a pedestrian walks on the left. No bus; it is raining while the road is empty!"
    assert [clause.text for clause in clauses_of(text)] == [
        "There is a truck ahead",
        "a pedestrian walks on the left",
        "No bus",
        "it is raining",
        "the road is empty",
    ]


def test_nothing_is_lost_but_stops_when_clauses_are_joined_again() -> None:
    text = "A truck is ahead. The sky is grey."
    assert joined([clause.text for clause in clauses_of(text)]) == text
    assert clauses_of("  ") == () and joined([]) == ""


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("two lorries and an SUV", [{"truck"}, {"car"}]),
        ("a police car", [{"car"}]),
        ("a cyclist beside some people", [{"bicycle"}, {"pedestrian"}]),
        ("a man on a motorbike", [{"pedestrian"}, {"motorcycle"}]),
        ("an orange traffic cone", [{"traffic_cone"}]),
        ("heavy traffic", [VEHICLES]),
        ("a green traffic light", [{TRAFFIC_LIGHT}]),
        ("a zebra crossing", [{CROSSING}]),
        ("someone is crossing the road", [{"pedestrian"}]),
        ("a pedestrian crossing from the left", [{"pedestrian"}]),
        ("a stop sign", [{STOP_LINE}]),
        ("carpet, businesses and vanity", []),
    ],
)
def test_a_mention_is_found_by_any_of_its_names(text: str, mentions: list) -> None:
    (clause, *more) = clauses_of(text)
    found = [set(names) for part in (clause, *more) for names in part.mentions]
    assert found == [set(names) for names in mentions]


def test_a_clause_knows_its_side_and_its_negation() -> None:
    left, both, neither, negated = clauses_of("a car on the left. cars left and right. a car ahead. there are no cars")
    assert (left.side, both.side, neither.side) == ("left", None, None)
    assert negated.is_negated and not left.is_negated


def test_only_a_statement_about_the_vehicle_itself_is_a_manoeuvre() -> None:
    own, other, place = clauses_of("we should turn left here. a car turns left. buildings on the left")
    assert own.is_own_manoeuvre and not other.is_own_manoeuvre and not place.is_own_manoeuvre


def test_every_list_of_prompts_is_found_by_its_version() -> None:
    assert DEFAULT_PROMPTS in PROMPTS
    for version, prompts in PROMPTS.items():
        assert prompts_of(version) is prompts and prompts.version == version and all(prompts.questions)
    with pytest.raises(ValueError, match="did you mean driver-1"):
        prompts_of("driver1")

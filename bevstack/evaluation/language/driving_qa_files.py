"""Questions, true answers and given answers of DriveLM, checked as they are read.

Questions: scene -> `key_frames` -> key frame -> `QA` -> kind of question -> list of `Q`, `A` and `tag`. Answers: a list
of `id` and `answer`, or an object whose `results` is that list (the challenge's submission). The id of an answer is
`SCENE_FRAME_NUMBER`, counting the questions of the key frame through all kinds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

KINDS = ("perception", "prediction", "planning", "behavior")
"""In the order in which the questions of a key frame are counted."""
TAGS = {0: "accuracy", 1: "judge", 2: "language", 3: "match"}
"""What a question is scored by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about a key frame."""

    id: str
    scene: str
    frame: str
    kind: str
    text: str
    answer: str
    """The true one."""
    tags: tuple[int, ...]
    """Keys of `TAGS`."""


def read_questions(path: str | Path) -> tuple[Question, ...]:
    """All questions of a file, key frame by key frame in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not whole or malformed; the message names file, scene, key frame, question and field.
    """
    content = _read_json(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must be an object with an entry for each scene")
    return tuple(question for scene, entry in content.items() for question in _of_scene(str(path), scene, entry))


def read_answers(path: str | Path) -> dict[str, str]:
    """Id -> answer.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not whole, an entry is malformed, or two have one id; the message names file, entry and field.
    """
    content = _read_json(path)
    entries = content.get("results") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise ValueError(f"{path} must be a list of answers, or an object whose field 'results' is one")
    answers: dict[str, str] = {}
    for number, entry in enumerate(entries):
        for field in ("id", "answer"):
            value = entry.get(field) if isinstance(entry, dict) else None
            if not isinstance(value, str):
                raise ValueError(f"{path}: entry {number}: field '{field}' is {value!r}; it must be a text")
        if entry["id"] in answers:
            raise ValueError(f"{path}: entry {number}: there are two answers with the id {entry['id']}")
        answers[entry["id"]] = entry["answer"]
    return answers


def _read_json(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); was it written to the end?") from error


def _of_scene(source: str, scene: str, entry: Any) -> Iterator[Question]:
    frames = entry.get("key_frames") if isinstance(entry, dict) else None
    if not isinstance(frames, dict):
        raise ValueError(f"{source}: scene {scene}: field 'key_frames' must be an object with an entry for each frame")
    for frame, content in frames.items():
        place = f"{source}: scene {scene}, key frame {frame}"
        kinds = content.get("QA") if isinstance(content, dict) else None
        if not isinstance(kinds, dict) or not set(kinds) <= set(KINDS):
            found = f"; it has {', '.join(map(str, kinds))}" if isinstance(kinds, dict) else ""
            raise ValueError(f"{place}: field 'QA' must be an object with lists of {', '.join(KINDS)}{found}")
        number = 0
        for kind in KINDS:
            for entry_of_kind in kinds.get(kind, []):
                identity = f"{scene}_{frame}_{number}"
                yield _question(entry_of_kind, f"{place}, question {number}", identity, scene, frame, kind)
                number += 1


def _question(entry: Any, place: str, identity: str, scene: str, frame: str, kind: str) -> Question:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{place} must be an object with Q, A and tag, it is {entry!r}")
    for field in ("Q", "A"):
        if not isinstance(entry.get(field), str):
            raise ValueError(f"{place}: field '{field}' is {entry.get(field)!r}; it must be a text")
    tags = entry.get("tag")
    if not isinstance(tags, list) or not tags or not all(isinstance(tag, int) and tag in TAGS for tag in tags):
        raise ValueError(
            f"{place}: field 'tag' is {tags!r}; it must be a list of {', '.join(f'{k} ({v})' for k, v in TAGS.items())}"
            " (the training file has none: its questions are not scored)"
        )
    return Question(
        id=identity, scene=scene, frame=frame, kind=kind, text=entry["Q"], answer=entry["A"], tags=tuple(tags)
    )  # fmt: skip

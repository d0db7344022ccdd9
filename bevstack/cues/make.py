"""Makes the cues of a split: captions, checked, refined and embedded, into the cache. Resumable, frame by frame."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from bevstack.cues.refinement import FactSource
from bevstack.data.cue_cache import CueRow, CueSettings, claim_cache, read_scene, write_scene
from bevstack.data.labels import Labeller, labelled
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.data.picture_hash import picture_hash_of_sample
from bevstack.perception.language.answers import MAX_CHARACTERS, fault_of
from bevstack.perception.language.captioner import Captioner
from bevstack.perception.language.refine import refine
from bevstack.perception.language.text_encoders import TextEncoder, embed_both
from bevstack.types.errors import DatasetError
from bevstack.types.frame import Frame

_SAVE_EVERY = 16
"""Frames between two saves of a scene: so many captions are lost at most when the power goes."""
NO_PICTURE = "no picture"


@dataclass(kw_only=True)
class CueSummary:
    """What a call made."""

    folder: Path
    settings: CueSettings
    num_made: int = 0
    num_present: int = 0
    """Frames whose cues were there already, of the same pictures."""
    num_outdated: int = 0
    """Frames whose cues described other pictures, and were made again."""
    faults: Counter[str] = field(default_factory=Counter)
    """Answers that are no cue, of the frames made now, by name."""
    first_fault: str = ""
    """The first of them: frame, fault and beginning of the answer."""
    num_dropped: int = 0
    """Clauses that refinement took out."""
    num_added: int = 0
    """Facts that it put in."""


def settings_of(captioner: Captioner, encoder: TextEncoder, facts: FactSource | None) -> CueSettings:
    """What the cache says of cues that are made so."""
    return CueSettings(
        captioner=captioner.name,
        prompt_version=captioner.prompt_version,
        encoder=encoder.name,
        refinement="none" if facts is None else facts.kind,
        cameras=captioner.cameras,
        width=encoder.width,
    )


def make_cues(
    frames: NuScenesFrames,
    folder: Path,
    *,
    captioner: Captioner,
    encoder: TextEncoder,
    facts: FactSource | None = None,
    labellers: Sequence[Labeller] = (),
    progress: bool = False,
) -> CueSummary:
    """Write the cues of a split, or go on where an interrupted call stopped.

    Args:
        frames: the split; the captioner sees its pictures in this size.
        folder: of the cache, see `cue_folder`.
        captioner: makes the text.
        encoder: embeds it.
        facts: refine with these, and put the manoeuvre of the route first; None leaves the text as it is.
        labellers: add the map to the frames, for an oracle and for refinement with annotations.
        progress: show a progress bar.

    Raises:
        DatasetError: `folder` holds cues made otherwise, or a frame cannot be read.
        ValueError: ground truth was asked for and is not there.
    """
    settings = settings_of(captioner, encoder, facts)
    claim_cache(folder, settings)
    summary = CueSummary(folder=folder, settings=settings)
    maker = _Maker(frames, captioner, encoder, facts, tuple(labellers), summary)
    with tqdm(total=len(frames), unit="frame", desc="cues", disable=not progress) as bar:
        for scene in frames.scenes:
            for done in maker.make_scene(scene.name, folder / f"{scene.name}.parquet"):
                bar.update(done)
    return summary


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row before its text is embedded."""

    frame: Frame
    picture_hash: str
    raw_text: str
    text: str
    fault: str


class _Maker:
    """Makes scenes, one after the other."""

    def __init__(
        self,
        frames: NuScenesFrames,
        captioner: Captioner,
        encoder: TextEncoder,
        facts: FactSource | None,
        labellers: tuple[Labeller, ...],
        summary: CueSummary,
    ) -> None:
        self._frames, self._captioner, self._encoder, self._facts = frames, captioner, encoder, facts
        self._labellers, self._summary = labellers, summary

    def make_scene(self, name: str, path: Path) -> Iterator[int]:
        """Write what is missing of a scene; yields numbers of frames done."""
        positions = self._frames.frames_of_scene(name)
        rows = self._usable_rows(path, positions)
        yield len(rows)
        drafts: list[_Draft] = []
        try:
            for position in positions:
                if self._frames.token(position) in rows:
                    continue
                drafts.append(self._draft(position))
                if len(drafts) == _SAVE_EVERY:
                    self._save(path, rows, drafts)
                yield 1
        finally:  # an interrupted call keeps what it has
            if drafts:
                self._save(path, rows, drafts)

    def _usable_rows(self, path: Path, positions: range) -> dict[str, CueRow]:
        """Rows of an earlier call that describe the pictures that are there now."""
        try:
            present = {row.sample_token: row for row in read_scene(path, self._summary.settings)}
        except DatasetError:
            present = {}  # damaged: all of it is made again
        usable = {}
        for position in positions:
            row = present.get(self._frames.token(position))
            if row is None:
                continue
            cameras = self._captioner.cameras
            if picture_hash_of_sample(self._frames.index, row.sample_token, cameras) == row.picture_hash:
                usable[row.sample_token] = row
            else:
                self._summary.num_outdated += 1
        self._summary.num_present += len(usable)
        return usable

    def _draft(self, position: int) -> _Draft:
        """Caption, check and refine one frame."""
        frame = labelled(self._frames[position], self._labellers)
        digest = picture_hash_of_sample(self._frames.index, frame.token, self._captioner.cameras)
        raw = self._captioner.caption(frame) if digest else ""
        fault = (fault_of(raw) or "") if digest else NO_PICTURE
        text = " ".join(raw.split())
        if fault:
            self._report(frame, fault, raw)
            text = ""
        elif self._facts is not None:
            refined = refine(text, self._facts(frame, position, self._captioner.cameras), frame.route)
            text = refined.text
            self._summary.num_dropped += len(refined.dropped)
            self._summary.num_added += len(refined.added)
            if not text:
                fault = "nothing left"
                self._report(frame, fault, raw)
        return _Draft(frame, digest, raw[: 2 * MAX_CHARACTERS], text, fault)

    def _report(self, frame: Frame, fault: str, raw: str) -> None:
        self._summary.faults[fault] += 1
        if not self._summary.first_fault:
            beginning = f": {raw[:60]!r}" if raw else ""
            self._summary.first_fault = f"frame {frame.token} of {frame.scene_name}, {fault}{beginning}"

    def _save(self, path: Path, rows: dict[str, CueRow], drafts: list[_Draft]) -> None:
        """Embed the drafts, add them to the rows, and write the scene; the drafts are used up."""
        good = [draft.text for draft in drafts if not draft.fault]
        pairs = iter(list(zip(*embed_both(self._encoder, good), strict=True)) if good else [])
        for draft in drafts:
            embedding, mirrored = (None, None) if draft.fault else next(pairs)
            rows[draft.frame.token] = CueRow(
                sample_token=draft.frame.token,
                timestamp_us=draft.frame.timestamp_us,
                picture_hash=draft.picture_hash,
                raw_text=draft.raw_text,
                text=draft.text,
                fault=draft.fault,
                embedding=embedding,
                mirrored_embedding=mirrored,
            )
        write_scene(path, rows.values(), self._summary.settings)
        self._summary.num_made += len(drafts)
        drafts.clear()

"""Rows of a manifest -> face crops and audio in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.faces.tracked import Region, TrackedClip, iter_tracked
from avff_lib.media.clip import Clip
from avff_lib.utils.parallel import parallel_map

if TYPE_CHECKING:  # it would load PyTorch, 300 MB in each decoding process
    from avff_lib.preprocess.spec import InputSpec

EXAMPLE_SECONDS = 20.0  # longer files are cut into examples of this length
MAX_LOADED_BYTES = 8 * 1024**3  # of face crops in memory


@dataclass(frozen=True, eq=False)
class Example:
    """A row of the manifest with its faces and its audio, or `EXAMPLE_SECONDS` of them.

    Attributes:
        row: its row of the manifest.
        clip: the speaker's face with the audio, from which training draws windows; without frames if no face
            speaks.
        tracked: all faces, by which the file is scored; a clip made by hand counts as one face throughout.
    """

    row: Row
    clip: Clip
    tracked: TrackedClip | None = None

    @property
    def start(self) -> float:
        """The clip's, in seconds."""
        return self.clip.start

    @property
    def duration(self) -> float:
        """The clip's, in seconds."""
        return self.clip.duration

    @property
    def last(self) -> bool:
        """Whether the file ends with this example."""
        return self.tracked is None or self.tracked.last

    @property
    def piece(self) -> TrackedClip:
        """The piece by which the file is scored."""
        return self.tracked or TrackedClip.of_face(self.clip)

    def window(self, start: float, duration: float, frame_times: np.ndarray | None = None) -> Clip:
        """The part of `clip` in [start, start + duration), see `avff_lib.media.clip.Clip.window`.

        Args:
            start, duration: in seconds.
            frame_times: ``(T,)`` seconds from ``start``; only the frames nearest to these are returned, one
                for each. By default, all frames.
        """
        return cut(self.clip, start, duration, frame_times)


class FilePart(Protocol):
    """An example, in memory or in a shard."""

    @property
    def row(self) -> Row: ...
    @property
    def last(self) -> bool: ...
    @property
    def piece(self) -> TrackedClip: ...


Part = TypeVar("Part", bound=FilePart)


@dataclass(frozen=True)
class Skipped:
    """A row that could not be used, and the reason, in one sentence."""

    row: Row
    reason: str


def load_examples(
    rows: Sequence[Row], spec: InputSpec, *, workers: int | None = None
) -> tuple[list[Example], list[Skipped]]:
    """Decode every file once and keep its faces at the size that ``spec`` asks for.

    A second of video takes 25 x 3 x size^2 bytes: 0.3 MB at 64 pixels.

    Args:
        rows: those of a manifest.
        spec: input spec of the model.
        workers: number of processes; by default one per core.

    Returns:
        The examples in the order of ``rows``, one for each file of up to `EXAMPLE_SECONDS`, and the rows that
        could not be used.

    Raises:
        AVFFError: the examples would take more than `MAX_LOADED_BYTES`.
    """
    load = partial(
        load_example,
        size=spec.image_size,
        region=spec.region,
        sample_rate=spec.sample_rate,
        min_duration=spec.duration,
    )
    workers = min(workers or os.cpu_count() or 1, max(1, len(rows) // 16))
    results: Iterable[list[Example] | Skipped]
    if workers == 1:
        results = (load(row) for row in tqdm(rows, desc="reading clips"))
    else:
        results = parallel_map(load, rows, workers, description="reading clips")
    examples: list[Example] = []
    skipped: list[Skipped] = []
    size = 0
    for result in results:
        if isinstance(result, Skipped):
            skipped.append(result)
            continue
        examples += result
        size += sum(face.frames.nbytes for example in result for face in example.piece.faces.values())
        if size > MAX_LOADED_BYTES:
            raise AVFFError(
                f"the faces of {len(examples)} of {len(rows)} clips already take "
                f"{MAX_LOADED_BYTES / 1024**3:.0f} GB of memory; run avff prepare, and read its shards"
            )
    return examples, skipped


def load_example(
    row: Row, *, size: int, region: Region, sample_rate: int, min_duration: float
) -> list[Example] | Skipped:
    """All of `iter_examples` as a list, or the reason why the file cannot be used."""
    try:
        return list(
            iter_examples(row, size=size, region=region, sample_rate=sample_rate, min_duration=min_duration)
        )
    except AVFFError as error:
        return Skipped(row, str(error))


def iter_examples(
    row: Row, *, size: int, region: Region = "face", sample_rate: int, min_duration: float
) -> Iterator[Example]:
    """Decode one file, and cut it down to its faces, `EXAMPLE_SECONDS` at a time.

    Args:
        row: its row of the manifest.
        size: side of the face crops, in pixels.
        region: of the face, see `avff_lib.preprocess.spec.InputSpec`.
        sample_rate: of the audio, in Hz.
        min_duration: shortest length of the file, in seconds.

    Raises:
        AVFFError: it cannot be read, is too short, or (raised at its end) shows no face.
    """
    pieces = iter_tracked(
        row.path,
        size,
        region=region,
        seconds=EXAMPLE_SECONDS,
        sample_rate=sample_rate,
        min_duration=min_duration,
    )
    faces = 0
    for piece in pieces:
        faces += len(piece.faces)
        yield Example(row, speaker_clip(piece), piece)
    if not faces:
        raise AVFFError("no face was found in it")


def speaker_clip(piece: TrackedClip) -> Clip:
    """The speaker's face from its first to its last detection, with the audio.

    Without a face, a clip of length zero.
    """
    number = piece.speaker()
    if number is None:
        nothing = piece.times[:0]
        return Clip(nothing, nothing, piece.waveform[:0], piece.sample_rate, piece.start, 0.0)
    face = piece.faces[number]
    shown = face.times[face.detected] if face.detected.any() else face.times
    after = piece.times[piece.times > shown[-1]]
    start = piece.start if shown[0] <= piece.times[0] else float(shown[0])
    end = float(after[0]) if len(after) else piece.end
    return piece.face_clip(number).window(start, end - start)


def cut(clip: Clip, start: float, duration: float, frame_times: np.ndarray | None) -> Clip:
    """A window of a clip; see `Example.window`."""
    window = clip.window(start, duration)
    if frame_times is None:
        return window
    chosen = window.nearest_frames(start + frame_times)
    return replace(window, frames=window.frames[chosen], times=window.times[chosen])


def by_file(examples: Iterable[Part]) -> Iterator[list[Part]]:
    """The examples of each file, in the order that they come in."""
    parts: list[Part] = []
    for example in examples:
        parts.append(example)
        if example.last:
            yield parts
            parts = []
    if parts:  # the rest of the file was left out
        yield parts

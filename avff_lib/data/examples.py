"""Rows of a manifest -> face crops and audio in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tqdm import tqdm

from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.faces.crop import crop_face
from avff_lib.faces.track import FaceTrack, speaker_face, track_faces
from avff_lib.media.clip import Clip
from avff_lib.media.decode import read_clip
from avff_lib.preprocess.spec import InputSpec
from avff_lib.utils.parallel import parallel_map


@dataclass(frozen=True, eq=False)
class Example:
    """A row of the manifest and its clip, cut down to the speaker's face."""

    row: Row
    clip: Clip

    @property
    def start(self) -> float:
        """Of the clip, in seconds."""
        return self.clip.start

    @property
    def duration(self) -> float:
        """Of the clip, in seconds."""
        return self.clip.duration


@dataclass(frozen=True)
class Skipped:
    """A row that could not be used, and why, in one sentence."""

    row: Row
    reason: str


def load_examples(
    rows: Sequence[Row], spec: InputSpec, *, workers: int | None = None
) -> tuple[list[Example], list[Skipped]]:
    """Decode every clip once and keep the speaker's face at the size that ``spec`` asks for.

    A second of video takes 25 x 3 x size^2 bytes: 0.3 MB at 64 pixels.

    Args:
        rows: of a manifest.
        spec: of the model to be fed.
        workers: processes; by default one a core.

    Returns:
        The examples in the order of ``rows``, and the rows that could not be used.
    """
    load = partial(load_example, spec=spec)
    workers = min(workers or os.cpu_count() or 1, max(1, len(rows) // 16))
    if workers == 1:
        results = [load(row) for row in tqdm(rows, desc="reading clips")]
    else:
        results = list(parallel_map(load, rows, workers, description="reading clips"))
    examples = [result for result in results if isinstance(result, Example)]
    skipped = [result for result in results if isinstance(result, Skipped)]
    return examples, skipped


def load_example(row: Row, spec: InputSpec) -> Example | Skipped:
    """Decode one clip and cut it down to the speaker's face, or say why that cannot be done."""
    try:
        clip, face = read_speaker(row, spec)
    except AVFFError as error:
        return Skipped(row, str(error))
    return Example(row, crop_face(clip, face, spec.image_size))


def read_speaker(row: Row, spec: InputSpec) -> tuple[Clip, FaceTrack]:
    """Decode one clip whole, and find the speaker's face in it.

    Raises:
        AVFFError: it cannot be read, is shorter than ``spec.duration``, or shows no face.
    """
    clip = read_clip(row.path, sample_rate=spec.sample_rate)
    if clip.duration < spec.duration:
        raise AVFFError(f"it lasts {clip.duration:.2f} s; the model needs {spec.duration:g} s")
    face = speaker_face(track_faces(clip))
    if face is None:
        raise AVFFError("no face was found in it")
    return clip, face

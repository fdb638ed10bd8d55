"""The genuine recordings: which can be used, which part of each, and where clips are cut from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError, MediaError
from avff_lib.forge.face import Face, find_face
from avff_lib.media.audio import SILENCE_PEAK
from avff_lib.media.clip import Clip
from avff_lib.media.decode import probe, read_clip
from avff_lib.synth.recording import rng_for
from avff_lib.synth.speech import SAMPLE_RATE

# In seconds, either way. Everybody notices a quarter of a second: by ITU-R BT.1359, viewers detect sound that
# is late by 0.125 s, and 0.185 s is unacceptable.
SHIFT = (0.25, 0.6)
MIN_SECONDS = 1.5  # of a clip; windows of the tiny models last up to 1.28 s
MAX_SECONDS = 8.0  # of a clip: two windows of the base models, and 0.2 GB of pictures at 25 frames per second
MAX_SIDE = (
    720  # pixels of the longer side, to which larger pictures are shrunk; models take faces of 224 pixels
)
CRF = (18, 26)  # of the encoding, drawn for each recording


@dataclass(frozen=True)
class Stretch:
    """The part of a file that is used, in seconds on its clock."""

    start: float
    duration: float


@dataclass(frozen=True)
class Recording:
    """A genuine recording, and where its clips, real and fake, are cut from it.

    ``begin`` and ``shifted`` are exchangeable: both have the same distribution. So a shifted voice begins in
    pauses and in words as often as that of a real clip, and no silence gives it away.

    Attributes:
        row: that of the file, with its split.
        stretch: the part that is read.
        begin: of each clip, in seconds on the file's clock.
        shifted: where a shifted voice begins instead.
        duration: of each clip, in seconds.
        crf: of each clip's encoding.
    """

    row: Row
    stretch: Stretch
    begin: float
    shifted: float
    duration: float
    crf: int

    @classmethod
    def draw(cls, row: Row, stretch: Stretch, seed: int, index: int) -> Recording:
        """Draw what all clips of a recording share, so that a fake and its real twin differ only by method.

        Args:
            row: that of the file.
            stretch: the part that is read.
            seed: of the dataset.
            index: number of the recording.
        """
        rng = rng_for(seed, "recording", index)
        spare = SHIFT[1]  # seconds of the stretch that a clip leaves out
        shift = rng.choice((-1, 1)) * rng.uniform(*SHIFT)
        begin = rng.uniform(max(0.0, -shift), spare - max(0.0, shift))
        return cls(
            row,
            stretch,
            begin=stretch.start + begin,
            shifted=stretch.start + begin + shift,
            # A manifest gives three decimals. In binary, 1.7 is slightly less than that.
            duration=int((stretch.duration - spare) * 1000 + 1e-6) / 1000,
            crf=int(rng.integers(CRF[0], CRF[1] + 1)),
        )


class Take:
    """The decoded stretch of a recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._clip = _read(recording.row.path, recording.stretch.start, recording.stretch.duration)
        # With a frame, so that the picture of a clip does not lag behind its sound.
        frame = max(0, int(np.searchsorted(self._clip.times, recording.begin, side="right")) - 1)
        self._begin = float(np.clip(self._clip.times[frame], self._clip.start, recording.begin))

    def cut(self, duration: float) -> Clip:
        """The clip of this length that begins where the recording's clips do."""
        clip = self._clip.window(self._begin, duration)
        # A frame that is already on the screen is shown from the beginning on.
        return replace(clip, times=np.maximum(clip.times, clip.start))

    def shifted_voice(self) -> np.ndarray:
        """The waveform ``(S,)`` that begins elsewhere."""
        return self._clip.window(self.recording.shifted, self.recording.duration).waveform

    def face(self, times: np.ndarray) -> Face:
        """Position of the face in the frames that begin at ``times`` ``(T,)``, seconds on the file's clock.

        Raises:
            MediaError: the face is not visible throughout.
        """
        return self._face[self._clip.nearest_frames(times)]

    @cached_property
    def _face(self) -> Face:
        face = find_face(self._clip)
        if face is None:
            raise MediaError(f"{self.recording.row.path} shows no face throughout; expected a speaker's")
        return face


def inspect(path: Path) -> Stretch | str:
    """The part of a file to use, or why it cannot be used, without its path."""
    try:
        wanted = MAX_SECONDS + SHIFT[1]
        clip = _read(path, None, wanted) if probe(path).duration > wanted else _read(path, 0.0, None)
        if clip.duration < MIN_SECONDS + SHIFT[1]:
            return f"lasts {clip.duration:.1f} s; expected {MIN_SECONDS + SHIFT[1]:.1f} s or more"
        if np.abs(clip.waveform).max(initial=0) < SILENCE_PEAK:
            return "is silent; expected a voice"
        if find_face(clip) is None:
            return "shows no face throughout; expected a speaker's"
        return Stretch(clip.start, clip.duration)
    except AVFFError as error:
        return str(error).replace(str(path), "").strip()


def _read(path: Path, start: float | None, duration: float | None) -> Clip:
    """A part of a file, ready for forging: at `SAMPLE_RATE`, and in the even sizes that H.264 needs."""
    clip = read_clip(path, start, duration, sample_rate=SAMPLE_RATE, max_side=MAX_SIDE)
    height, width = (side // 2 * 2 for side in clip.frames.shape[1:3])
    return replace(clip, frames=np.ascontiguousarray(clip.frames[:, :height, :width]))

"""Facts that a file states about itself, and facts measured from its frames and sound while decoding.

They describe the file and are no sign of a forgery: any file that was converted, cut or sent over a network
has some of them.
"""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from dataclasses import dataclass

import av
import cv2
import numpy as np

from avff_lib.media.picture import Picture

MAX_TAG_LENGTH = 200  # characters of a tag; it may come from a stranger
# Names of tags, in lower case, for the program or the device that wrote a file.
WRITER_TAGS = (
    *("major_brand", "encoder", "writing_application", "software", "make", "model"),
    *("com.apple.quicktime.make", "com.apple.quicktime.model", "com.apple.quicktime.software"),
    *("com.android.manufacturer", "com.android.model", "com.android.version"),
)
STREAM_TAGS = ("handler_name", "encoder")

REPEAT_GRID = 64  # points along the shorter side of a picture at which frames are compared
REPEAT_CELL = 3  # points along the side of a square, over which their changes are averaged
CHANGING_SHARE = 0.02  # of the picture, where it changes most
MAX_REPEAT_RATIO = 0.15  # see `MediaObserver.add_picture`
MAX_REPEAT_DIFFERENCE = 0.02  # grey levels, likewise
REFERENCE_FRAMES = 16  # with which a frame's change is compared
MIN_STILL_FRAMES = 3  # consecutive repetitions in a frozen part
MIN_FROZEN_SECONDS = 0.5
MAX_SPANS = 1000  # kept of each kind, so that memory stays bounded

MIN_INTERVALS = 5  # between frames, to determine the usual one
LONG_INTERVAL = 1.5  # times the usual one, beyond which frames are missing
INTERVAL_TOLERANCE = 0.002  # seconds; containers round the times of frames to milliseconds
VARIABLE_SHARE = 0.1  # of intervals that differ from the usual one, above which the rate is variable

SPECTRUM_SIZE = 512  # samples of a spectrum
SPECTRUM_WINDOW = np.kaiser(SPECTRUM_SIZE, 14.0)  # side lobes below -100 dB
SPECTRUM_INTERVAL = 2048  # samples from one spectrum to the next, at least
MIN_SPECTRA = 10  # for a bandwidth
BANDWIDTH_FLOOR = 1e-7  # -70 dB; share of the loudest frequency's power, below which there is no sound


@dataclass(frozen=True)
class MediaInfo:
    """Properties of a media file.

    Attributes:
        duration: seconds until the video ends, from the header (measured if the header does not state it).
        width, height: of the upright frames in pixels, before any shrinking.
        frame_rate: mean frames per second, 0 if unknown.
        video_codec, audio_codec: FFmpeg's names.
        sample_rate: of the audio, in Hz.
        channels: of the audio.
        writer: the program that wrote the file, from its tags and the video itself; empty if not stated.
        container: FFmpeg's name of the format; one name may stand for several, as in ``"matroska,webm"``.
    """

    duration: float
    width: int
    height: int
    frame_rate: float
    video_codec: str
    sample_rate: int
    channels: int
    audio_codec: str
    writer: str
    container: str


@dataclass(frozen=True)
class Span:
    """A part of a file, in seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class MediaFacts(MediaInfo):
    """`MediaInfo`, and facts known only once the file is decoded; None if not measurable.

    Attributes:
        frames: number of frames that were examined; in faster videos, 60 per second.
        repeated_frames: number of them that repeat the one before; see `MediaObserver.add_picture`. In a slow
            animation, or if nothing moves, this is no fault.
        frozen: parts of `MIN_FROZEN_SECONDS` or more in which every frame repeats the one before, in order;
            the first `MAX_SPANS` of them.
        variable_frame_rate: whether more than `VARIABLE_SHARE` of the intervals between frames differ from
            the usual one; None for fewer than `MIN_INTERVALS`.
        missing_frames: number of frames missing by the timestamps, counted in intervals longer than
            `LONG_INTERVAL` times the usual one; None if the frame rate is variable.
        sound_delay: seconds by which the sound starts after the picture, negative if before.
        sound_shortfall: seconds by which the sound ends before the picture, 0 if it does not.
        bandwidth: highest frequency in Hz with sound, rounded to a multiple of 100 Hz: where the mean
            power spectrum exceeds `BANDWIDTH_FLOOR` of its maximum. Sound that was once stored at a lower
            sample rate, or coded at a low bit rate, ends below half its sample rate. None for fewer than
            `MIN_SPECTRA` spectra.
    """

    frames: int
    repeated_frames: int
    frozen: tuple[Span, ...]
    variable_frame_rate: bool | None
    missing_frames: int | None
    sound_delay: float
    sound_shortfall: float
    bandwidth: float | None


class MediaObserver:
    """Measures `MediaFacts` while a file is decoded; memory does not grow with its length.

    Pass one to `avff_lib.media.decode.iter_pieces`. `facts` is available once all pieces were taken.
    """

    def __init__(self) -> None:
        self._info: MediaInfo | None = None
        self._ends = (0.0, 0.0, 0.0, 0.0)
        self._points: np.ndarray | None = None  # of the last picture
        self._changes: deque[float] = deque(
            maxlen=REFERENCE_FRAMES
        )  # of the last frames that repeat no other
        self._time = math.nan  # of the last picture, in seconds
        self._frames = self._repeated = 0
        self._intervals: Counter[int] = Counter()  # milliseconds between frames
        self._still_since = math.nan  # seconds; time of the last picture that repeats no other
        self._still_frames = 0  # since then
        self._still: Span | None = None  # the last frozen part, which may continue
        self._frozen: list[Span] = []
        self._power = np.zeros(SPECTRUM_SIZE // 2 + 1)
        self._spectra = 0
        self._unheard = 0  # samples until the next spectrum
        self._rate = 0

    def add_picture(self, picture: Picture, time: float) -> None:
        """Take the next frame.

        A frame counts as repeated if, where it differs most from the one before, the difference is at most
        `MAX_REPEAT_DIFFERENCE` grey levels, or at most `MAX_REPEAT_RATIO` of the usual difference in the last
        `REFERENCE_FRAMES` frames that repeat no other. The ratio, and signed means over squares, are needed
        because the codec refines a repeated frame when it codes it again. In coarsely coded videos this
        changes it as much as motion does, and repeated frames are missed.
        """
        points = picture.points(REPEAT_GRID)
        if self._points is not None:
            self._intervals[round(1000 * (time - self._time))] += 1
        if self._repeats(points):
            self._repeated += 1
            self._still_frames += 1
        else:
            self._end_still(time)
            self._still_since, self._still_frames = time, 0
        self._points, self._time = points, time
        self._frames += 1

    def _repeats(self, points: np.ndarray) -> bool:
        if self._points is None or self._points.shape != points.shape:
            return False
        change = _change(self._points, points)
        known = len(self._changes) == REFERENCE_FRAMES
        # The upper quartile, since more than half of the first frames may be repeated.
        usual = sorted(self._changes)[REFERENCE_FRAMES * 3 // 4] if known else 0.0
        if change <= max(MAX_REPEAT_DIFFERENCE, MAX_REPEAT_RATIO * usual):
            return True
        self._changes.append(change)
        return False

    def _end_still(self, time: float) -> None:
        """Record a frozen part if the picture did not change until now."""
        if self._still_frames < MIN_STILL_FRAMES:
            return
        start = round(self._still_since, 3)
        # A key frame changes a frozen picture once, since it is coded again.
        if self._still is not None and self._still.end == start:
            start = self._still.start
        self._still = Span(start, round(time, 3))
        if self._still.end - start >= MIN_FROZEN_SECONDS:
            if self._frozen and self._frozen[-1].start == start:
                self._frozen.pop()
            if len(self._frozen) < MAX_SPANS:
                self._frozen.append(self._still)

    def add_sound(self, frame: av.AudioFrame) -> None:
        """Take the next piece of sound, as it was decoded; only some pieces give a spectrum."""
        self._unheard -= frame.samples
        if frame.samples < SPECTRUM_SIZE or self._unheard > 0:
            return
        if frame.sample_rate != self._rate:  # spectra at different rates have no mean
            self._rate, self._spectra = frame.sample_rate, 0
            self._power[:] = 0
        self._unheard = SPECTRUM_INTERVAL
        samples = frame.to_ndarray()
        # The first channel; packed samples of all channels are in one row.
        channel = samples[0] if len(samples) > 1 else samples[0, :: frame.layout.nb_channels]
        channel = channel[:SPECTRUM_SIZE].astype(np.float64)
        channel = (channel - channel.mean()) * SPECTRUM_WINDOW
        self._power += np.square(np.abs(np.fft.rfft(channel)))
        self._spectra += 1

    def finish(self, info: MediaInfo, picture: tuple[float, float], sound: tuple[float, float]) -> None:
        """Take what is known at the end of a file.

        Args:
            info: properties of the file.
            picture, sound: start and end, in seconds.
        """
        self._end_still(picture[1])
        self._info, self._ends = info, (*picture, *sound)

    def facts(self) -> MediaFacts | None:
        """None if the file was not read to its end."""
        if self._info is None:
            return None
        start, end, sound_start, sound_end = self._ends
        variable, missing = self._timing()
        return MediaFacts(
            **vars(self._info),
            frames=self._frames,
            repeated_frames=self._repeated,
            frozen=tuple(self._frozen),
            variable_frame_rate=variable,
            missing_frames=missing,
            sound_delay=round(sound_start - start, 3),
            sound_shortfall=round(max(0.0, end - sound_end), 3),
            bandwidth=self._bandwidth(),
        )

    def _timing(self) -> tuple[bool | None, int | None]:
        """Whether the frame rate is variable, and the number of missing frames."""
        if self._intervals.total() < MIN_INTERVALS:
            return None, None
        values = np.array(list(self._intervals)) / 1000
        counts = np.array(list(self._intervals.values()))
        usual = values[counts.argmax()]
        other = np.abs(values - usual) > INTERVAL_TOLERANCE
        if counts[other].sum() > VARIABLE_SHARE * counts.sum():
            return True, None
        long = values > LONG_INTERVAL * usual
        return False, int((counts[long] * (np.round(values[long] / usual) - 1)).sum())

    def _bandwidth(self) -> float | None:
        if self._spectra < MIN_SPECTRA:
            return None
        loud = np.flatnonzero(self._power > BANDWIDTH_FLOOR * self._power.max())
        if not len(loud):  # silence
            return None
        return float(round((loud[-1] + 0.5) * self._rate / SPECTRUM_SIZE, -2))


def _change(before: np.ndarray, after: np.ndarray) -> float:
    """Mean change in grey levels between two grids ``(H, W)`` uint8, over where they differ most."""
    difference = cv2.subtract(after, before, dtype=cv2.CV_32F)
    change = np.abs(cv2.blur(difference, (REPEAT_CELL, REPEAT_CELL))).ravel()
    count = max(1, round(CHANGING_SHARE * len(change)))
    return float(np.partition(change, -count)[-count:].mean())


def clean_tag(text: str) -> str:
    """A tag as one line of printable characters, cut to `MAX_TAG_LENGTH`."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())[:MAX_TAG_LENGTH]


def encoder_of(message: bytes) -> str:
    """Name and version of the encoder, from user data in a video such as x264's; empty if there is none."""
    found = re.search(rb"(x264) - core (\d+)|(x265) \(build (\d+)\)", message)
    return b" ".join(part for part in found.groups() if part).decode() if found else ""

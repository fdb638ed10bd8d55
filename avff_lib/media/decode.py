"""A media file -> `Clip`: frames and sound decoded once, in order, on one clock.

The clock is the file's own, with the earliest start of the two streams as zero. The picture decides
where a file ends. What is missing stays visible: lost frames are not replaced, lost sound becomes
zeros, and `Clip.warnings` names either in a sentence.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avff_lib.clip import Clip, MediaError
from avff_lib.media.streams import DRIFT, Streams

MAX_CLIP_BYTES = 2 * 1024**3  # of RGB frames in one clip
EDGE = 0.05  # seconds; streams of one file end unevenly by so much, as codecs work in blocks
NOTABLE_GAP = 0.25  # seconds without a new frame that are worth a warning, if also > 3 frame periods
SILENT = 1e-3  # peak amplitude, -60 dB
FLAT = 8  # grey levels between the darkest and the brightest pixel


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds.

    Attributes:
        duration: seconds until the picture ends, as the header promises (measured if it is silent).
        width, height: of the upright picture in pixels, before any shrinking.
        frame_rate: mean frames a second, 0 if the file does not say.
        video_codec, audio_codec: FFmpeg's names.
        sample_rate: of the sound, in Hz.
        channels: of the sound.
        writer: what the tags say of the program that wrote the file, empty if nothing.
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


def probe(path: str | Path) -> MediaInfo:
    """Describe a file, decoding no more than the first frame of each stream.

    Raises:
        MediaError: the file cannot be answered for (see `read_clip`).
    """
    with Streams(Path(path), sample_rate=16_000, max_side=1280) as streams:
        promised = streams.promised_end
        audio = streams.audio.codec_context
        return MediaInfo(
            duration=streams.measured_end() if promised is None else promised,
            width=streams.upright_size[0],
            height=streams.upright_size[1],
            frame_rate=float(streams.video.average_rate or 0),
            video_codec=streams.video.codec_context.codec.canonical_name,
            sample_rate=audio.sample_rate,
            channels=audio.channels,
            audio_codec=audio.codec.canonical_name,
            writer=_writer(streams),
        )


def _writer(streams: Streams) -> str:
    tags = {name.lower(): value for name, value in streams.video.container.metadata.items()}
    tags["handler"] = streams.video.metadata.get("handler_name", "")
    return ", ".join(tags[name] for name in ("major_brand", "encoder", "handler") if tags.get(name))


def read_clip(
    path: str | Path,
    start: float = 0.0,
    duration: float | None = None,
    *,
    sample_rate: int = 16_000,
    max_side: int = 1280,
) -> Clip:
    """Read the window [start, start + duration) of a file.

    The file is decoded from its beginning, as seeking is not exact in every container.

    Args:
        start: seconds on the file's clock.
        duration: seconds; ``None`` reads to the end of the picture.
        sample_rate: rate that the sound is resampled to, in Hz.
        max_side: frames with a longer side than this many pixels are shrunk to it.

    Raises:
        MediaError: not a media file, empty, no picture, no sound, undecodable, too short for the
            window, or too long to hold in memory.
    """
    if start < 0 or (duration is not None and duration <= 0):
        raise ValueError(f"start is {start} and duration {duration}; expected start >= 0 and duration > 0")
    with Streams(Path(path), sample_rate, max_side) as streams:
        buffer = _Buffer(streams)
        buffer.forget(start)
        buffer.read_until(math.inf if duration is None else start + duration)
        if duration is None:
            duration = buffer.shown_until - start
        buffer.check_length(start + max(duration, EDGE))
        return buffer.cut(start, duration)


def iter_clips(
    path: str | Path,
    duration: float,
    hop: float,
    *,
    shortest: float | None = None,
    sample_rate: int = 16_000,
    max_side: int = 1280,
) -> Iterator[Clip]:
    """Read a whole file as windows, in one pass and in memory that does not grow with its length.

    Windows start at the first frame and then every ``hop`` seconds. If the last of them does not reach
    the end of the picture, one more is added that ends there, so that no frame stays unseen
    (``hop <= duration`` provided).

    Args:
        duration: of each window, in seconds.
        hop: seconds from one window's start to the next.
        shortest: a file shorter than one window, but at least this many seconds long, comes as one
            shorter window; by default it must fill one.
        sample_rate, max_side: as in `read_clip`; so many frames a second that a window and a hop of them
            would fill half of `MAX_CLIP_BYTES` are shrunk further.

    Raises:
        MediaError: as in `read_clip`; too short means shorter than ``shortest``.
    """
    if duration <= 0 or hop <= 0:
        raise ValueError(f"duration is {duration} and hop {hop}; expected both > 0")
    # The last window and this one are held, and a copy is made; 120 frames a second are shrunk to fit.
    held = MAX_CLIP_BYTES / (2 * (duration + hop))
    with Streams(Path(path), sample_rate, max_side, held) as streams:
        buffer = _Buffer(streams)
        first = start = streams.begins
        while buffer.read_until(start + duration):
            yield buffer.cut(start, duration)
            buffer.forget(start)  # not start + hop: the last window may begin right after this one
            start += hop
        if start == first:
            shortest = duration if shortest is None else shortest
            buffer.check_length(first + shortest)  # which lets a frame's length pass
            yield buffer.cut(first, min(duration, max(shortest, buffer.shown_until - first)))
        elif (last := buffer.shown_until - duration) > start - hop + 0.5 / sample_rate:
            yield buffer.cut(last, duration)


class _Buffer:
    """The stretch of a file's two streams that is still needed.

    Attributes:
        shown_until: end of what was decoded of the picture, in seconds.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams, self._rate = streams, streams.sample_rate
        self._frames: deque[tuple[float, float, np.ndarray]] = deque()  # shown from, shown until, RGB
        self._chunks: deque[tuple[int, np.ndarray]] = deque()  # index of the first sample, samples
        self._keep_from = 0.0
        self._heard_until = 0  # in samples
        self._complete = False
        self.shown_until = streams.begins

    def read_until(self, end: float) -> bool:
        """Decode both streams up to ``end`` seconds; whether the picture lasts so long."""
        reached = end - 0.5 / self._rate
        while not self._complete and self.shown_until < reached:
            picture = next(self._streams.pictures, None)
            if picture is None:
                self._complete = True
            else:
                self._add_picture(*picture)
        # A little more than asked: at the end of the file it tells whether the sound goes on.
        listen_until = (min(end, self.shown_until) + 2 * NOTABLE_GAP) * self._rate
        while self._heard_until < listen_until and (chunk := next(self._streams.sounds, None)):
            self._add_sound(*chunk)
        return self.shown_until >= reached

    def _add_picture(self, shown_from: float, shown_until: float, frame) -> None:
        self.shown_until = shown_until
        if shown_until <= self._keep_from:
            return
        image = self._streams.rgb(frame, shown_from)
        self._frames.append((shown_from, shown_until, image))
        if len(self._frames) * image.nbytes > MAX_CLIP_BYTES:
            raise MediaError(
                f"{self._streams.path} has more than {MAX_CLIP_BYTES / 1024**3:.0f} GiB of frames in one "
                "clip; read a shorter part of it, or the whole in windows with iter_clips"
            )

    def _add_sound(self, index: int, samples: np.ndarray) -> None:
        overlap = max(0, self._heard_until - index)
        if overlap > DRIFT * self._rate and self._heard_until > 0:
            self._streams.problems.append(
                (index / self._rate, "piece of sound that overlaps the one before, cut")
            )
        samples, index = samples[overlap:], index + overlap
        self._heard_until = max(self._heard_until, index + len(samples))
        if len(samples) and self._heard_until > self._keep_from * self._rate:
            self._chunks.append((index, samples))

    def forget(self, before: float) -> None:
        """Drop what ended before the time ``before``; it is not asked for again."""
        self._keep_from = before
        while self._frames and self._frames[0][1] <= before:
            self._frames.popleft()
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) <= before * self._rate:
            self._chunks.popleft()
        problems = self._streams.problems
        problems[:] = [(time, what) for time, what in problems if time >= before - EDGE]

    def check_length(self, needed: float) -> None:
        """Raise a `MediaError` if the picture, read as far as it goes, ends before ``needed``."""
        if self.shown_until < needed - EDGE:
            raise MediaError(
                f"{self._streams.path} is too short: its picture ends at {self.shown_until:.2f} s and "
                f"{needed:.2f} s are needed; give a longer file or ask for a shorter window"
            )

    def cut(self, start: float, duration: float) -> Clip:
        """The window as a clip; it has been read and not forgotten."""
        slack, end = 0.5 / self._rate, start + duration
        shown = [f for f in self._frames if start - slack <= f[0] < end - slack]
        if not shown:  # a still longer than the window: the frame on the screen, with its own time
            shown = [f for f in self._frames if f[0] < end and f[1] > start][:1]
        if not shown:
            raise MediaError(
                f"{self._streams.path} has no picture from {start:.2f} to {end:.2f} s; ask for another part"
            )
        times = np.array([shown_from for shown_from, _, _ in shown])
        frames = np.stack([image for _, _, image in shown])  # (T, H, W, 3)
        waveform, silences = self._waveform(start, duration)
        warnings = [
            *(f"no new frame from {a:.2f} to {b:.2f} s" for a, b in self._stills(times, start, end)),
            *(f"no sound from {a:.2f} to {b:.2f} s; zeros stand there" for a, b in silences),
            *self._problems(start, end),
            *(self._uneven_end() if self._complete and end > self.shown_until - EDGE else ()),
        ]
        if np.abs(waveform).max(initial=0.0) < SILENT:
            warnings.append("the sound is silent throughout")
        if np.ptp(frames[:, ::4, ::4].reshape(len(frames), -1), axis=1).max() <= FLAT:
            warnings.append("the picture is one flat colour throughout")
        return Clip(frames, times, waveform, self._rate, start, duration, tuple(warnings))

    def _waveform(self, start: float, duration: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Samples ``(S,)`` of the window, and the stretches in seconds for which there were none."""
        first, count = round(start * self._rate), round(duration * self._rate)
        waveform, silences, filled = np.zeros(count, np.float32), [], 0
        for index, samples in [*self._chunks, (first + count, np.zeros(0, np.float32))]:
            begin, end = np.clip([index - first, index - first + len(samples)], 0, count)
            waveform[begin:end] = samples[begin + first - index : end + first - index]
            if begin - filled > EDGE * self._rate:
                silences.append(((first + filled) / self._rate, (first + begin) / self._rate))
            filled = max(filled, end)
        return waveform, silences

    def _stills(self, times: np.ndarray, start: float, end: float) -> list[tuple[float, float]]:
        """Stretches of the window in which the picture stood still for longer than its rate explains."""
        notable = max(NOTABLE_GAP, 3 * self._streams.period)
        marks = [start, *(time for time in times if time > start), end]
        return [(a, b) for a, b in itertools.pairwise(marks) if b - a > notable]

    def _problems(self, start: float, end: float) -> list[str]:
        found: dict[str, list[float]] = {}
        for time, what in self._streams.problems:
            if start - EDGE <= time < end + EDGE:
                found.setdefault(what, []).append(time)
        return [f"{len(t)} x {what}, from {min(t):.2f} to {max(t):.2f} s" for what, t in found.items()]

    def _uneven_end(self) -> Iterator[str]:
        """How the end of the picture differs from what the header or the sound promises."""
        end, promised = self.shown_until, self._streams.promised_end
        if promised is not None and promised - end > 2 * NOTABLE_GAP:
            yield f"the file promises {promised:.2f} s, but its picture ends at {end:.2f} s"
        if self._heard_until > (end + NOTABLE_GAP) * self._rate:
            yield f"the sound goes on after the picture ends at {end:.2f} s; that part is left out"

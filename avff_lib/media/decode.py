"""A media file -> `Clip`: frames and audio decoded once, in order, on one clock.

The clock is the file's own, with the earliest start of the two streams as zero. The video stream decides
where a file ends. Missing frames are not replaced, missing audio becomes zeros, and `Clip.warnings` reports
both.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from avff_lib.errors import MediaError
from avff_lib.media.clip import Clip
from avff_lib.media.streams import MAX_AUDIO_DRIFT, Streams

MAX_CLIP_BYTES = 2 * 1024**3  # of RGB frames in one clip
END_TOLERANCE = 0.05  # seconds by which the streams of one file may end apart, as codecs work in blocks
MIN_REPORTED_GAP = 0.25  # seconds without a new frame that give a warning, if also > 3 frame periods
SILENCE_PEAK = 1e-3  # peak amplitude below which audio is silent, -60 dB
FLAT_RANGE = 8  # grey levels between the darkest and the brightest pixel of a flat frame


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
        writer: tags about the program that wrote the file, empty if there are none.
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
        MediaError: the file cannot be decoded (see `read_clip`).
    """
    with Streams(Path(path), sample_rate=16_000, max_side=1280) as streams:
        end = streams.header_end
        width, height = streams.upright_size
        audio = streams.audio.codec_context
        return MediaInfo(
            duration=streams.measured_end() if end is None else end,
            width=width,
            height=height,
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
        duration: seconds; ``None`` reads to the end of the video.
        sample_rate: rate that the audio is resampled to, in Hz.
        max_side: frames with a longer side than this many pixels are shrunk to it.

    Raises:
        MediaError: not a media file, empty, without video or audio, undecodable, too short for the window, or
            too long to hold in memory.
    """
    if start < 0 or (duration is not None and duration <= 0):
        raise ValueError(f"start is {start} and duration {duration}; expected start >= 0 and duration > 0")
    with Streams(Path(path), sample_rate, max_side) as streams:
        buffer = _Buffer(streams)
        buffer.forget(start)
        buffer.read_until(math.inf if duration is None else start + duration)
        if duration is None:
            duration = buffer.video_end - start
        buffer.check_length(start + max(duration, END_TOLERANCE))
        return buffer.cut(start, duration)


def iter_clips(
    path: str | Path,
    duration: float,
    hop: float,
    *,
    min_duration: float | None = None,
    sample_rate: int = 16_000,
    max_side: int = 1280,
) -> Iterator[Clip]:
    """Read a whole file as windows, in one pass and in memory that does not grow with its length.

    Windows start at the first frame and then every ``hop`` seconds. If the last of them does not reach the
    end of the video, one more is added that ends there, so that every frame is in a window (provided that
    ``hop <= duration``).

    Args:
        duration: of each window, in seconds.
        hop: seconds from one window's start to the next.
        min_duration: a file shorter than one window, but at least this many seconds long, gives one shorter
            window; by default it must fill a whole one.
        sample_rate, max_side: as in `read_clip`; frames are shrunk further where a window and a hop of them
            would exceed half of `MAX_CLIP_BYTES`, as at 120 frames per second.

    Raises:
        MediaError: as in `read_clip`; too short means shorter than ``min_duration``.
    """
    if duration <= 0 or hop <= 0:
        raise ValueError(f"duration is {duration} and hop {hop}; expected both > 0")
    # The buffer holds a window and a hop, and each window is a copy of a part of it.
    bytes_per_second = MAX_CLIP_BYTES / (2 * (duration + hop))
    with Streams(Path(path), sample_rate, max_side, bytes_per_second) as streams:
        buffer = _Buffer(streams)
        first = start = streams.start
        while buffer.read_until(start + duration):
            yield buffer.cut(start, duration)
            buffer.forget(start)  # not start + hop: the last window may begin right after this one
            start += hop
        if start == first:
            min_duration = duration if min_duration is None else min_duration
            buffer.check_length(first + min_duration)  # with a tolerance of about a frame
            yield buffer.cut(first, min(duration, max(min_duration, buffer.video_end - first)))
        elif buffer.video_end - duration > start - hop + 0.5 / sample_rate:
            yield buffer.cut(buffer.video_end - duration, duration)


class _Buffer:
    """The stretch of a file's two streams that is still needed.

    Attributes:
        video_end: end of the video decoded so far, in seconds.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._rate = streams.sample_rate
        self._frames: deque[tuple[float, float, np.ndarray]] = deque()  # start, end, RGB
        self._chunks: deque[tuple[int, np.ndarray]] = deque()  # index of the first sample, samples
        self._keep_from = 0.0  # seconds
        self._audio_end = 0  # end of the audio decoded so far, in samples
        self._complete = False  # whether the video was decoded to its end
        self.video_end = streams.start

    def read_until(self, end: float) -> bool:
        """Decode both streams up to ``end`` seconds; return whether the video lasts that long."""
        reached = end - 0.5 / self._rate
        while not self._complete and self.video_end < reached:
            frame = next(self._streams.frames, None)
            if frame is None:
                self._complete = True
            else:
                self._add_frame(*frame)
        # A little more than needed, so that at the end of the file it is known whether the audio goes on.
        audio_end = (min(end, self.video_end) + 2 * MIN_REPORTED_GAP) * self._rate
        while self._audio_end < audio_end:
            chunk = next(self._streams.chunks, None)
            if chunk is None:
                break
            self._add_chunk(*chunk)
        return self.video_end >= reached

    def _add_frame(self, start: float, end: float, frame: av.VideoFrame) -> None:
        self.video_end = end
        if end <= self._keep_from:
            return
        image = self._streams.rgb(frame, start)
        self._frames.append((start, end, image))
        if len(self._frames) * image.nbytes > MAX_CLIP_BYTES:
            raise MediaError(
                f"{self._streams.path} has more than {MAX_CLIP_BYTES / 1024**3:.0f} GiB of frames in one "
                "clip; read a shorter part of it, or the whole in windows with iter_clips"
            )

    def _add_chunk(self, index: int, samples: np.ndarray) -> None:
        overlap = max(0, self._audio_end - index)
        if overlap > MAX_AUDIO_DRIFT * self._rate and self._audio_end > 0:
            self._streams.problems.append(
                (index / self._rate, "piece of sound that overlaps the one before, cut")
            )
        samples, index = samples[overlap:], index + overlap
        self._audio_end = max(self._audio_end, index + len(samples))
        if len(samples) and self._audio_end > self._keep_from * self._rate:
            self._chunks.append((index, samples))

    def forget(self, before: float) -> None:
        """Drop frames and samples that end before the time ``before``."""
        self._keep_from = before
        while self._frames and self._frames[0][1] <= before:
            self._frames.popleft()
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) <= before * self._rate:
            self._chunks.popleft()
        problems = self._streams.problems
        problems[:] = [(time, what) for time, what in problems if time >= before - END_TOLERANCE]

    def check_length(self, needed: float) -> None:
        """Raise a `MediaError` if the video, decoded to its end, ends before ``needed`` seconds."""
        if self.video_end < needed - END_TOLERANCE:
            raise MediaError(
                f"{self._streams.path} is too short: its picture ends at {self.video_end:.2f} s and "
                f"{needed:.2f} s are needed; give a longer file or ask for a shorter window"
            )

    def cut(self, start: float, duration: float) -> Clip:
        """The window as a clip, from what was read and not forgotten."""
        slack, end = 0.5 / self._rate, start + duration
        inside = [frame for frame in self._frames if start - slack <= frame[0] < end - slack]
        if not inside:  # one frame is shown for longer than the window: that frame, with its own time
            inside = [frame for frame in self._frames if frame[0] < end and frame[1] > start][:1]
        if not inside:
            raise MediaError(
                f"{self._streams.path} has no picture from {start:.2f} to {end:.2f} s; ask for another part"
            )
        times = np.array([frame[0] for frame in inside])
        frames = np.stack([frame[2] for frame in inside])  # (T, H, W, 3)
        waveform, audio_gaps = self._waveform(start, duration)
        video_gaps = self._video_gaps(times, start, end)
        warnings = [f"no new frame from {a:.2f} to {b:.2f} s" for a, b in video_gaps]
        warnings += [f"no sound from {a:.2f} to {b:.2f} s; zeros stand there" for a, b in audio_gaps]
        warnings += self._problems(start, end)
        if self._complete and end > self.video_end - END_TOLERANCE:
            warnings += self._uneven_end()
        if np.abs(waveform).max(initial=0.0) < SILENCE_PEAK:
            warnings.append("the sound is silent throughout")
        if np.ptp(frames[:, ::4, ::4].reshape(len(frames), -1), axis=1).max() <= FLAT_RANGE:
            warnings.append("the picture is one flat colour throughout")
        return Clip(frames, times, waveform, self._rate, start, duration, tuple(warnings))

    def _waveform(self, start: float, duration: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Samples ``(S,)`` of the window, and the stretches in seconds without any."""
        first, count = round(start * self._rate), round(duration * self._rate)
        waveform = np.zeros(count, np.float32)
        gaps: list[tuple[float, float]] = []
        filled = 0
        for index, samples in [*self._chunks, (first + count, np.zeros(0, np.float32))]:
            begin, end = np.clip([index - first, index - first + len(samples)], 0, count)
            waveform[begin:end] = samples[begin + first - index : end + first - index]
            if begin - filled > END_TOLERANCE * self._rate:
                gaps.append(((first + filled) / self._rate, (first + begin) / self._rate))
            filled = max(filled, end)
        return waveform, gaps

    def _video_gaps(self, times: np.ndarray, start: float, end: float) -> list[tuple[float, float]]:
        """Stretches of the window without a new frame, longer than the frame rate explains."""
        notable = max(MIN_REPORTED_GAP, 3 * self._streams.frame_period)
        marks = [start, *(time for time in times if time > start), end]
        return [(a, b) for a, b in itertools.pairwise(marks) if b - a > notable]

    def _problems(self, start: float, end: float) -> list[str]:
        times_of: dict[str, list[float]] = {}
        for time, what in self._streams.problems:
            if start - END_TOLERANCE <= time < end + END_TOLERANCE:
                times_of.setdefault(what, []).append(time)
        return [f"{len(t)} x {what}, from {min(t):.2f} to {max(t):.2f} s" for what, t in times_of.items()]

    def _uneven_end(self) -> Iterator[str]:
        """Warnings if the video ends earlier than the header states, or earlier than the audio."""
        end, header_end = self.video_end, self._streams.header_end
        if header_end is not None and header_end - end > 2 * MIN_REPORTED_GAP:
            yield f"the file promises {header_end:.2f} s, but its picture ends at {end:.2f} s"
        if self._audio_end > (end + MIN_REPORTED_GAP) * self._rate:
            yield f"the sound goes on after the picture ends at {end:.2f} s; that part is left out"

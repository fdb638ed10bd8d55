"""The audio of a file: the track that is used, and its conversion to a mono waveform."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard

from avff_lib.media.clip import to_samples

SILENCE_PEAK = 1e-3  # peak amplitude below which audio is silent, -60 dB
MAX_SEARCH = 600.0  # seconds after which a track with no sound so far counts as silent
MAX_AUDIO_DRIFT = 0.03  # seconds between audio and its timestamps, beyond which it is placed again
MAX_TIMESTAMP_JUMP = 600.0  # seconds; a longer one means that one of the two timestamps is broken

# Index of the first sample on the clock, samples (S,) in [-1, 1], and whether another recording begins here.
Chunk = tuple[int, np.ndarray, bool]
Problems = list[tuple[float, str]]  # time in seconds, and what is damaged there


def audible_track(container: InputContainer, default: int) -> tuple[int, str | None]:
    """The default track, or another one if the default is silent or cannot be decoded.

    Audio is decoded up to the first sound of the default track, but at most `MAX_SEARCH` seconds of it.

    Args:
        container: opened for this purpose, since its packets are consumed.
        default: index among the audio tracks, from 0.

    Returns:
        Index of the track to use, and a sentence if it is not the default one.
    """
    tracks = list(container.streams.audio)
    peaks = [-1.0] * len(tracks)  # negative until something could be decoded
    for stream in container.streams:
        stream.discard = Discard.default if stream in tracks else Discard.all
    for packet in container.demux(tracks):
        number = [track.index for track in tracks].index(packet.stream.index)
        if tracks[number].codec_context is None:
            continue
        begin = packet.stream.start_time or 0
        if packet.pts is not None and (packet.pts - begin) * packet.time_base > MAX_SEARCH:
            break
        try:
            frames = tracks[number].decode(packet)
            peaks[number] = max([peaks[number], *(_peak(frame) for frame in frames)])
        except (av.FFmpegError, ValueError):
            continue
        if peaks[default] >= SILENCE_PEAK:
            return default, None
    ranks = [(peak >= 0) + (peak >= SILENCE_PEAK) for peak in peaks]
    best = max(range(len(tracks)), key=lambda number: (ranks[number], number == default, -number))
    if best == default:
        return default, None
    state = "is silent" if ranks[default] else "cannot be decoded"
    return best, f"sound track {default + 1} {state}; track {best + 1} is used"


def _peak(frame: av.AudioFrame) -> float:
    samples: np.ndarray = frame.to_ndarray()
    middle, largest = 0.0, 1.0
    if samples.dtype.kind != "f":
        limits = np.iinfo(samples.dtype.name)
        middle = (limits.max + limits.min + 1) / 2  # 128 for unsigned bytes
        largest = limits.max - middle
    return float(np.abs(samples - middle).max(initial=0.0)) / largest


class Resampler:
    """Decoded frames -> mono chunks at the requested rate, placed on the clock.

    An unbroken stretch is placed by its first timestamp and then counted in samples, since timestamps are
    rounded.
    """

    def __init__(
        self,
        first: av.AudioFrame,
        sample_rate: int,
        announced_rate: int,
        clock: Callable[[av.AudioFrame], float | None],
        tick: float,
        problems: Problems,
    ) -> None:
        """Resample audio that begins with the frame ``first``.

        Args:
            first: first frame of the file.
            sample_rate: of the chunks, in Hz.
            announced_rate: sample rate that the file was opened with.
            clock: returns the time of a frame in seconds, ``None`` if it has no timestamp.
            tick: resolution of timestamps, in seconds.
            problems: list to which damaged pieces are added.
        """
        self._first = first
        self._sample_rate = sample_rate
        self._announced_rate = announced_rate
        self._clock = clock
        self._tick = tick
        self._problems = problems

    def from_beginning(self, frames: Iterable[av.AudioFrame]) -> Iterator[Chunk]:
        """All chunks; ``frames`` are those of the file, from the first on."""
        time = self._clock(self._first) or 0.0
        index = to_samples(time, self._sample_rate)
        return self._chunks(frames, _Run(self._first, time, index, self._sample_rate))

    def from_middle(self, frames: Iterator[av.AudioFrame], before: float) -> Iterator[Chunk] | None:
        """Chunks from later frames on, with the samples that `from_beginning` would return.

        Timestamps alone are too coarse for this. But frames are of equal length, so the first timestamp and
        this one give the number of samples between them.

        Returns:
            ``None`` if the frames begin later than ``before`` seconds, or are not of equal length.
        """
        first, frame = self._first, next(frames, None)
        if frame is None or _format(frame) != _format(first):
            return None
        begin, time = self._clock(first), self._clock(frame)
        if begin is None or time is None:
            return None
        rate = frame.sample_rate
        blocks = round(((time - begin) * rate - first.samples) / frame.samples)
        passed = first.samples + blocks * frame.samples
        rounding = 2.01 * self._tick  # of two timestamps, each possibly rounded again by a muxer
        if time > max(begin, before) or abs(passed / rate - (time - begin)) > rounding:
            return None
        # Move on to where a sample of the result falls on one of the source, like the very first.
        step = rate // math.gcd(rate, self._sample_rate)
        surplus = -passed % step
        passed += surplus
        index = to_samples(begin, self._sample_rate) + passed * self._sample_rate // rate
        run = _Run(first, begin + passed / rate, index, self._sample_rate)
        return self._chunks(_without(surplus, chain([frame], frames)), run)

    def _chunks(self, frames: Iterable[av.AudioFrame], run: _Run) -> Iterator[Chunk]:
        guess = None  # at the next timestamp
        for frame in frames:
            stated = time = self._clock(frame)
            # Several frames may share one timestamp, as in MPEG, and FFmpeg derives those of the others from
            # the sample rate that the file was opened with. After a change of rate they are meaningless.
            if time is None or (guess is not None and abs(time - guess) < 1.5 * self._tick):
                time = run.end
            guess = None
            if stated is not None and frame.sample_rate != self._announced_rate:
                guess = stated + frame.samples / self._announced_rate
            away = abs(time - run.end)
            if away > MAX_TIMESTAMP_JUMP:
                self._problems.append((run.end, "piece of sound with an impossible timestamp, left out"))
                continue
            if away > MAX_AUDIO_DRIFT or run.format != _format(frame):
                yield from self._push(run, None)
                index = run.index if away <= MAX_AUDIO_DRIFT else to_samples(time, self._sample_rate)
                run = _Run(frame, time, index, self._sample_rate, another=run.format != _format(frame))
            yield from self._push(run, frame)
        yield from self._push(run, None)

    def _push(self, run: _Run, frame: av.AudioFrame | None) -> Iterator[Chunk]:
        try:
            yield from run.push(frame)
        except (av.FFmpegError, ValueError):
            self._problems.append((run.end, "piece of sound in a form that cannot be converted, left out"))


class _Run:
    """Audio without a break, resampled as one piece.

    Attributes:
        format: of its frames.
        end: expected start of the next frame, in seconds.
        index: of the next sample of the result.
    """

    def __init__(
        self, like: av.AudioFrame, end: float, index: int, sample_rate: int, another: bool = False
    ) -> None:
        """``another`` is whether the run begins another recording than the last one."""
        self.format = _format(like)
        self.end = end
        self.index = index
        self._another = another
        # Convert to integers, for which FFmpeg scales the downmix so that it cannot leave [-1, 1].
        self._resampler = av.AudioResampler("s32", "mono", sample_rate)

    def push(self, frame: av.AudioFrame | None) -> Iterator[Chunk]:
        """The chunks that ``frame`` completes; ``None`` flushes the rest."""
        if frame is not None:
            self.end += frame.samples / frame.sample_rate
        for chunk in self._resampler.resample(frame):
            if chunk is not None:
                samples = chunk.to_ndarray()[0].astype(np.float32) / 2**31  # (S,)
                yield self.index, samples, self._another
                self.index += len(samples)
                self._another = False


def _without(surplus: int, frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """The frames without the first ``surplus`` samples."""
    for frame in frames:
        if surplus >= frame.samples:
            surplus -= frame.samples
        elif surplus:
            values = surplus * (1 if frame.format.is_planar else frame.layout.nb_channels)
            samples: Any = np.ascontiguousarray(frame.to_ndarray()[:, values:])
            rest = av.AudioFrame.from_ndarray(samples, frame.format.name, frame.layout.name)
            rest.sample_rate, rest.time_base, rest.pts = frame.sample_rate, frame.time_base, frame.pts
            surplus = 0
            yield rest
        else:
            yield frame


def _format(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate

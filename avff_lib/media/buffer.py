"""`Buffer`: the stretch of a file that is currently needed, and clips cut from it."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import av
import numpy as np

from avff_lib.errors import MediaError
from avff_lib.media.audio import MAX_AUDIO_DRIFT, SILENCE_PEAK
from avff_lib.media.clip import MAX_EARLY, Clip, frames_shown, nearest, to_samples
from avff_lib.media.picture import Picture
from avff_lib.media.streams import Streams

MAX_CLIP_BYTES = 2 * 1024**3  # of RGB frames in one clip
END_TOLERANCE = 0.05  # seconds between the ends of a file's streams, as codecs work in blocks
AUDIO_AHEAD = 0.5  # seconds of audio that are read beyond the end of a window
MIN_REPORTED_GAP = 0.25  # seconds without a new frame that give a warning, if also > 3 frame periods
FRAME_GAP_TOLERANCE = 0.002  # seconds; containers round the times of frames to milliseconds
FLAT_RANGE = 8  # grey levels between the darkest and the brightest pixel of a flat frame

# Turns a frame and its time into what is kept of it; a picture is converted to RGB when a clip is made.
Consumer = Callable[[Picture, float], np.ndarray | Picture]


class _Kept(NamedTuple):
    """What is kept of a frame shown from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    image: np.ndarray | Picture | None

    def rgb(self) -> np.ndarray:
        assert self.image is not None
        return self.image.rgb() if isinstance(self.image, Picture) else self.image


class Buffer:
    """The stretch of a file's two streams that is still needed.

    Attributes:
        video_end: end of the video decoded so far, in seconds.
        audio_start: start of the sound, in seconds; None before there is any.
    """

    def __init__(
        self,
        streams: Streams,
        consume: Consumer = lambda picture, _: picture,
        *,
        frame_times: np.ndarray | None = None,
        max_frame_rate: float = math.inf,
    ) -> None:
        """Read from ``streams``.

        Args:
            streams: from which nothing was read yet.
            consume: see `Consumer`.
            frame_times: ``(N,)``, in seconds; only the frames nearest to these enter clips.
            max_frame_rate: in frames per second; at higher rates, some frames are left out.
        """
        self._streams = streams
        self._consume = consume
        self._wanted = frame_times
        self._min_gap = 1 / max_frame_rate - FRAME_GAP_TOLERANCE
        self._rate = streams.sample_rate
        self._frames: deque[_Kept] = deque()
        self._newest = -math.inf  # time of the last frame that was kept
        self._frame_size = (0, 0)  # height and width of what is kept
        self._chunks: deque[tuple[int, np.ndarray]] = deque()  # index of the first sample, samples
        self._keep_from = 0.0  # seconds
        self._audio_end = 0  # end of the audio decoded so far, in samples
        self.audio_start: float | None = None
        self._complete = False  # whether the video was decoded to its end
        self.video_end = streams.start

    @property
    def audio_end(self) -> float:
        """End of the sound decoded so far, in seconds."""
        return self._audio_end / self._rate

    def read_until(self, end: float) -> bool:
        """Decode both streams up to ``end`` seconds; return whether the video lasts that long."""
        reached = end - 0.5 / self._rate
        while not self._complete and self.video_end < reached:
            frame = next(self._streams.frames, None)
            if frame is None:
                self._complete = True
            else:
                self._add_frame(*frame)
        # Read ahead, to know whether the audio continues at the end of the file, and whether the audio of
        # another recording cuts it off.
        audio_end = (min(end, self.video_end) + AUDIO_AHEAD) * self._rate
        while self._audio_end < audio_end:
            chunk = next(self._streams.chunks, None)
            if chunk is None:
                break
            self._add_chunk(*chunk)
        return self.video_end >= reached

    def _add_frame(self, start: float, end: float, frame: av.VideoFrame | None) -> None:
        self.video_end = end
        if start - self._newest < self._min_gap:
            if self._frames:  # the previous frame stays on the screen
                self._frames[-1] = self._frames[-1]._replace(end=end)
            return
        self._newest = start
        if end <= self._keep_from:
            return
        image = None
        if frame is not None and self._is_wanted(start, end):
            image = self._consume(self._streams.picture(frame, start), start)
            height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.size
            self._frame_size = height, width
            if sum(kept.image is not None for kept in self._frames) * 3 * height * width > MAX_CLIP_BYTES:
                raise MediaError(
                    f"{self._streams.path} has more than {MAX_CLIP_BYTES / 1024**3:.0f} GiB of frames in one "
                    "clip; read a shorter part of it, or the whole in windows with iter_clips"
                )
        self._frames.append(_Kept(start, end, image))

    def _is_wanted(self, start: float, end: float) -> bool:
        """Whether a frame may be the nearest to one of the requested times."""
        if self._wanted is None:
            return True
        return bool(((self._wanted > start - MAX_EARLY) & (self._wanted < end + END_TOLERANCE)).any())

    def _add_chunk(self, index: int, samples: np.ndarray, another: bool) -> None:
        overlap = max(0, self._audio_end - index)
        if overlap > MAX_AUDIO_DRIFT * self._rate and self._audio_end > 0:
            self._streams.problems.append(
                (index / self._rate, "piece of sound that overlaps the one before, cut")
            )
        if another and overlap:  # both recordings have their own picture
            self._end_audio(max(index, self._audio_end - to_samples(AUDIO_AHEAD, self._rate)))
            overlap = max(0, self._audio_end - index)
        samples, index = samples[overlap:], index + overlap
        self._audio_end = max(self._audio_end, index + len(samples))
        if self.audio_start is None and len(samples):
            self.audio_start = index / self._rate
        if len(samples) and self._audio_end > self._keep_from * self._rate:
            self._chunks.append((index, samples))

    def _end_audio(self, index: int) -> None:
        """Drop the samples from ``index`` on."""
        while self._chunks and self._chunks[-1][0] + len(self._chunks[-1][1]) > index:
            first, samples = self._chunks.pop()
            if first < index:
                self._chunks.append((first, samples[: index - first]))
        self._audio_end = index

    def forget(self, before: float) -> None:
        """Drop frames and samples that end before the time ``before``."""
        self._keep_from = before
        while self._frames and self._frames[0].end <= before:
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
        """The window as a clip, from the data that was read and not forgotten."""
        times = np.array([kept.start for kept in self._frames])
        shown = list(self._frames)[frames_shown(times, start, start + duration, 0.5 / self._rate)]
        if not shown:
            raise MediaError(
                f"{self._streams.path} has no picture from {start:.2f} to {start + duration:.2f} s; ask for "
                "another part"
            )
        return self._clip(shown, start, duration)

    def take(self, start: float, duration: float) -> Clip:
        """The frames that begin before the end of the window, and its sound; both are then forgotten."""
        end = start + duration
        shown = []
        while self._frames and self._frames[0].start < end - 0.5 / self._rate:
            shown.append(self._frames.popleft())
        clip = self._clip(shown, start, duration)
        self.forget(end)
        return clip

    def _clip(self, shown: list[_Kept], start: float, duration: float) -> Clip:
        end = start + duration
        times = np.array([kept.start for kept in shown])
        chosen = range(len(shown)) if self._wanted is None else np.unique(nearest(times, self._wanted))
        frames = np.empty((len(chosen), *self._frame_size, 3), np.uint8)
        for frame, index in zip(frames, chosen, strict=True):
            frame[:] = shown[index].rgb()
        waveform, audio_gaps = self._waveform(start, duration)
        video_gaps = self._video_gaps(times, start, end)
        warnings = [f"no new frame from {a:.2f} to {b:.2f} s" for a, b in video_gaps]
        warnings += [f"no sound from {a:.2f} to {b:.2f} s; zeros stand there" for a, b in audio_gaps]
        warnings += [*self._problems(start, end), *self._streams.notes]
        if self._complete and end > self.video_end - END_TOLERANCE:
            warnings += self._uneven_end()
        if np.abs(waveform).max(initial=0.0) < SILENCE_PEAK:
            warnings.append("the sound is silent throughout")
        sampled = frames[:, ::4, ::4] if min(self._frame_size) > 64 else frames
        if frames.size and np.ptp(sampled.reshape(len(frames), -1), axis=1).max() <= FLAT_RANGE:
            warnings.append("the picture is one flat colour throughout")
        return Clip(frames, times[chosen], waveform, self._rate, start, duration, tuple(warnings))

    def _waveform(self, start: float, duration: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Samples ``(S,)`` of the window, and the stretches in seconds without any."""
        first, count = to_samples(start, self._rate), to_samples(duration, self._rate)
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

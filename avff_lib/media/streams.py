"""The two streams of an open media file, decoded in order, on one clock.

Decoding is by FFmpeg through PyAV (https://pyav.basswood-io.com); `avff_lib.media.decode` makes clips of it.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from os.path import exists  # False, too, where nobody may look
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition, Stream
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from avff_lib.errors import MediaError

MAX_PIXELS = 8192**2  # larger frames are refused: they are mistakes or attacks, not talking heads
MAX_TIMESTAMP_JUMP = 600.0  # seconds; a longer one between two timestamps means that one of them is broken
MAX_AUDIO_DRIFT = 0.03  # seconds between audio and its timestamps beyond which it is placed anew

Frame = av.VideoFrame | av.AudioFrame


class Streams:
    """Video and audio of a file, decoded on demand.

    The clock is the file's own, with the earliest start of the two streams as zero, so an offset between
    video and audio is kept. Packets of the stream that runs ahead wait undecoded, so badly interleaved files
    need little memory.

    Attributes:
        video, audio: PyAV's streams.
        frame_period: mean seconds from one frame to the next.
        start: time of the first frame, in seconds.
        upright_size: width and height of the upright frames, before any shrinking.
        frames: iterator over video frames as (start, end, frame), in seconds.
        chunks: iterator over mono audio as (index of the first sample, ``(S,)`` float32 in [-1, 1]).
        problems: (time in seconds, description) of each damaged piece so far.

    Raises:
        MediaError: not a media file, empty, without video or audio, undecodable, or with frames too large.
    """

    def __init__(
        self, path: Path, sample_rate: int, max_side: int, bytes_per_second: float = math.inf
    ) -> None:
        """Frames are shrunk to ``max_side`` pixels, and to at most ``bytes_per_second`` of RGB video."""
        self.path = path
        self.sample_rate = sample_rate
        self.problems: list[tuple[float, str]] = []
        self._container = _open(path)
        try:
            video, audio = self._best_stream("video", "picture"), self._best_stream("audio", "sound")
            assert isinstance(video, VideoStream)
            assert isinstance(audio, AudioStream)
            self.video, self.audio = video, audio
            self._begin(max_side, bytes_per_second)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _best_stream(self, kind: Literal["video", "audio"], name: str) -> Stream:
        stream = self._container.streams.best(kind)
        if stream is None or stream.disposition & Disposition.attached_pic:  # cover art
            raise MediaError(f"{self.path} has no {name}; give a file with both picture and sound")
        if stream.codec_context is None:
            raise MediaError(f"{self.path} cannot be decoded: its {name} is in an unknown format; convert it")
        return stream

    def _begin(self, max_side: int, bytes_per_second: float) -> None:
        """Decode the first frame of each stream; they fix the clock's zero and the frame size."""
        video, audio = self.video, self.audio
        self._check_size(video.codec_context.width, video.codec_context.height)
        # By default the decoder conceals broken parts with other frames, without an error.
        video.codec_context.options = {"err_detect": "explode"}
        self.frame_period = float(1 / (video.average_rate or video.guessed_rate or 25))
        self._zero = 0.0
        self._demuxed: Iterator[av.Packet] = self._container.demux(video, audio)
        self._waiting: dict[int, deque[av.Packet]] = {video.index: deque(), audio.index: deque()}

        video_frames: Iterator[av.VideoFrame] = self._decode(video, "picture")
        audio_frames: Iterator[av.AudioFrame] = self._decode(audio, "sound")
        first_video, first_audio = next(video_frames, None), next(audio_frames, None)
        if first_video is None or first_audio is None:
            name = "picture" if first_video is None else "sound"
            raise MediaError(
                f"{self.path} cannot be decoded: no part of its {name} is intact; give another copy"
            )
        starts = [_seconds(s.start_time, s) for s in (video, audio) if s.start_time is not None]
        first_times = (self._time(first_video, video), self._time(first_audio, audio))
        starts += [time for time in first_times if time is not None]
        self._zero = min(starts, default=0.0)
        self.problems = [(max(0.0, time - self._zero), what) for time, what in self.problems]
        self.start = self._time(first_video, video) or 0.0

        self._coded_size = (first_video.width, first_video.height)
        pixel_aspect = float(video.codec_context.sample_aspect_ratio or 1)  # width / height of a pixel
        if not 0.2 < pixel_aspect < 5:
            pixel_aspect = 1.0
        width, height = round(first_video.width * pixel_aspect), first_video.height
        fitting = math.sqrt(bytes_per_second * self.frame_period / (3 * width * height))
        shrink = min(1.0, max_side / max(width, height), fitting)
        self._size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        self.upright_size = (height, width) if orientation(first_video)[0] % 2 else (width, height)
        self._reformatter = VideoReformatter()
        self.frames = self._timed(itertools.chain([first_video], video_frames))
        self.chunks = self._resampled(itertools.chain([first_audio], audio_frames))

    # -- packets, frames and their times --

    def _packets(self, stream: Stream) -> Iterator[av.Packet]:
        queue = self._waiting[stream.index]
        failed = False  # whether the last attempt to read a packet failed
        last = 0.0  # seconds; time of the last packet
        while True:
            if queue:
                yield queue.popleft()
                continue
            try:
                packet = next(self._demuxed)
            except StopIteration:
                return
            except IndexError:  # a packet of a stream that begins in mid-file, unknown to PyAV and not needed
                self._demuxed = self._container.demux(self.video, self.audio)
                continue
            except av.FFmpegError:
                self.problems.append((last, "unreadable part of the file"))
                if failed:  # twice in a row: nothing more can be read
                    return
                failed = True
                self._demuxed = self._container.demux(self.video, self.audio)
                continue
            failed = False
            if packet.dts is not None:
                last = _seconds(packet.dts, packet) - self._zero
            self._waiting[packet.stream.index].append(packet)

    def _decode(self, stream: VideoStream | AudioStream, name: str) -> Iterator[Any]:
        """The frames of ``stream``: `av.VideoFrame` or `av.AudioFrame`, as PyAV decides by the stream."""
        time = 0.0
        for packet in self._packets(stream):
            ticks = packet.dts if packet.pts is None else packet.pts
            if ticks is not None:
                time = _seconds(ticks, stream) - self._zero
            try:
                frames = packet.decode()
            except av.EOFError:
                return
            except av.FFmpegError:
                self.problems.append((time, f"damaged piece of {name}"))
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.problems.append((time, f"damaged piece of {name}"))
                yield frame

    def _time(self, frame: Frame, stream: VideoStream | AudioStream) -> float | None:
        """Start of ``frame`` on the clock in seconds, ``None`` if it has no timestamp."""
        ticks = frame.dts if frame.pts is None else frame.pts
        if stream is self.video and self._is_avi:
            # AVI numbers frames in decoding order; they are shown later by the reordering depth.
            ticks = None if frame.dts is None else frame.dts - self.video.codec_context.reorder_depth
        return None if ticks is None else _seconds(ticks, stream) - self._zero

    @property
    def _is_avi(self) -> bool:
        return self._container.format.name == "avi"

    @property
    def header_end(self) -> float | None:
        """End of the video, or else of the file, in seconds according to the header; ``None`` if unknown."""
        if self._container.format.name in ("mpeg", "mpegts"):  # no header: FFmpeg would guess
            return None
        if self.video.duration:
            ticks = (self.video.start_time or 0) + self.video.duration
            return _seconds(ticks, self.video) - self._zero
        return self._container.duration / av.time_base if self._container.duration else None

    def measured_end(self) -> float:
        """End of the last video packet in seconds; reads the rest of the file."""
        ends = [p.pts + (p.duration or 0) for p in self._packets(self.video) if p.pts is not None]
        return max(self.start, _seconds(max(ends, default=0), self.video) - self._zero)

    # -- video --

    def _timed(self, frames: Iterable[av.VideoFrame]) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """Each frame with its start and end in seconds; a frame ends where the next one starts."""
        start = -self.frame_period
        current: av.VideoFrame | None = None
        for frame in frames:
            next_start = self._time(frame, self.video)
            if next_start is None:
                next_start = start + self.frame_period
                if not self._is_avi:  # there the frames delayed by reordering have no timestamp
                    self.problems.append(
                        (next_start, "frame without a timestamp, placed at the mean frame rate")
                    )
            if current is not None:
                if not start < next_start < start + MAX_TIMESTAMP_JUMP:
                    self.problems.append((start, "frame with an impossible timestamp, left out"))
                    continue
                yield start, next_start, current
            start, current = next_start, frame
        assert current is not None  # there is at least the first frame
        duration = _seconds(current.duration or 0, self.video)
        yield (
            start,
            start + (duration if 0 < duration < MAX_TIMESTAMP_JUMP else self.frame_period),
            current,
        )

    def rgb(self, frame: av.VideoFrame, time: float) -> np.ndarray:
        """The frame at ``time`` seconds, upright ``(H, W, 3)`` uint8, in the size of the first one."""
        size = (frame.width, frame.height)
        self._check_size(frame.width, frame.height)
        if size != self._coded_size:
            self.problems.append((time, "frame of another size, resized to the first one's"))
        method = "BILINEAR" if size == self._size else "AREA"
        width, height = self._size
        image = self._reformatter.reformat(frame, width, height, format="rgb24", interpolation=method)
        turns, mirrored = orientation(frame)
        pixels = image.to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, turns))

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise MediaError(
                f"{self.path} has frames of {width}x{height} pixels; expected at most 8192x8192, shrink it"
            )

    # -- audio --

    def _resampled(self, frames: Iterable[av.AudioFrame]) -> Iterator[tuple[int, np.ndarray]]:
        """Mono chunks at the wanted rate, each with the index of its first sample on the clock."""
        run: _Run | None = None
        for frame in frames:
            time = self._time(frame, self.audio)
            if run is not None:
                time = run.end if time is None else time
                if abs(time - run.end) > MAX_TIMESTAMP_JUMP:
                    self.problems.append((run.end, "piece of sound with an impossible timestamp, left out"))
                    continue
                if abs(time - run.end) > MAX_AUDIO_DRIFT or run.format != _format(frame):
                    yield from self._push(run, None)
                    run = None
            if run is None:
                run = _Run(frame, time or 0.0, self.sample_rate)
            yield from self._push(run, frame)
        if run is not None:
            yield from self._push(run, None)

    def _push(self, run: _Run, frame: av.AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        try:
            yield from run.push(frame)
        except (av.FFmpegError, ValueError):
            self.problems.append((run.end, "piece of sound in a form that cannot be converted, left out"))


class _Run:
    """Audio without a break: resampled as one piece, and placed by its first timestamp.

    Attributes:
        format: of its frames.
        end: time in seconds at which the next frame should start.
    """

    def __init__(self, frame: av.AudioFrame, time: float, sample_rate: int) -> None:
        self.format = _format(frame)
        self.end = time
        self._index = math.floor(time * sample_rate + 0.5)
        # To integers, for which FFmpeg scales the downmix so that it cannot leave [-1, 1].
        self._resampler = av.AudioResampler("s32", "mono", sample_rate)

    def push(self, frame: av.AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        """The chunks that ``frame`` completes, each with its first index; ``None`` flushes the rest."""
        if frame is not None:
            self.end += frame.samples / frame.sample_rate
        for chunk in self._resampler.resample(frame):
            if chunk is not None:
                samples = chunk.to_ndarray()[0].astype(np.float32) / 2**31  # (S,)
                yield self._index, samples
                self._index += len(samples)


def _seconds(ticks: int, timed: Stream | av.Packet) -> float:
    """Timestamp or duration in units of the stream's or packet's time base -> seconds."""
    assert timed.time_base is not None  # every stream and packet of an open file has one
    return float(ticks * timed.time_base)


def _format(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Anticlockwise quarter turns that make a frame upright, and whether to mirror it before.

    The display matrix holds [a b u; c d v; x y w] as 32-bit fixed-point numbers; a stored point (p, q)
    is shown at (a p + c q, b p + d q), with q pointing down. Other angles are rounded to quarter turns.
    """
    try:
        matrix = frame.side_data[SideDataType.DISPLAYMATRIX]  # type: ignore[typeddict-item]  # wrong in its stubs
    except KeyError:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4")[:5] / 65536
    mirrored = bool(a * d - b * c < 0)
    if mirrored:
        a, b = -a, -b
    return round(math.atan2(-b, a) / (math.pi / 2)) % 4, mirrored


def _open(path: Path) -> InputContainer:
    if not exists(path):
        raise MediaError(f"{path} does not exist, or cannot be reached; give the path of a video file")
    if not path.is_file():
        raise MediaError(f"{path} is not a file; give the path of a video file")
    try:
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes); give a video file with sound")
        # Absolute, so that no name is taken for a protocol; files only, so that no playlist opens a
        # connection.
        options = {"protocol_whitelist": "file"}
        return av.open(str(path.resolve()), metadata_errors="replace", options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(
            f"{path} cannot be read as a media file ({reason}); expected MP4, MKV, WebM, AVI or MPEG"
        ) from None

"""The two streams of an open media file, decoded in order, on one clock.

Decoding is by FFmpeg through PyAV (https://pyav.basswood-io.com). `avff_lib.media.decode` makes clips of
what comes out here.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from os.path import exists  # False, too, where nobody may look
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition, Stream
from av.video.reformatter import VideoReformatter

from avff_lib.clip import MediaError

MAX_PIXELS = 8192**2  # larger frames are refused: they are mistakes or attacks, not talking heads
LONGEST_LEAP = 600.0  # seconds; a longer one between two timestamps means that one of them is broken
DRIFT = 0.03  # seconds by which sound may stray from its timestamps before it is placed anew

Frame = av.VideoFrame | av.AudioFrame


class Streams:
    """Picture and sound of a file, decoded as they are asked for.

    The clock is the file's own, with the earliest start of the two streams as zero, so an offset
    between picture and sound is kept. Packets of the stream that runs ahead wait undecoded, so badly
    interleaved files stay cheap.

    Attributes:
        video, audio: PyAV's streams.
        period: mean seconds from one frame to the next.
        begins: time of the first frame, in seconds.
        upright_size: width and height of the picture as seen, before any shrinking.
        pictures: gives each frame as (shown from, shown until, frame), in seconds.
        sounds: gives chunks of mono sound as (index of the first sample, ``(S,)`` float32 in [-1, 1]).
        problems: (time, what) for each damaged piece met so far.

    Raises:
        MediaError: not a media file, empty, no picture, no sound, undecodable, or absurdly large.
    """

    def __init__(self, path: Path, sample_rate: int, max_side: int, bytes_a_second: float = math.inf) -> None:
        self.path, self.sample_rate = path, sample_rate
        self.problems: list[tuple[float, str]] = []
        self._container = _open(path)
        try:
            self.video, self.audio = self._stream("video", "picture"), self._stream("audio", "sound")
            self._begin(max_side, bytes_a_second)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _stream(self, kind: str, name: str) -> Stream:
        stream = self._container.streams.best(kind)
        if stream is None or stream.disposition & Disposition.attached_pic:  # the cover of a song
            raise MediaError(f"{self.path} has no {name}; give a file with both picture and sound")
        if stream.codec_context is None:
            raise MediaError(f"{self.path} cannot be decoded: its {name} is in an unknown format; convert it")
        return stream

    def _begin(self, max_side: int, bytes_a_second: float) -> None:
        """Decode the first frame of each stream; they fix the clock's zero and the picture's size."""
        video, audio = self.video, self.audio
        self._check_size(video.codec_context.width, video.codec_context.height)
        # Without this a decoder fills broken parts from other frames and says nothing.
        video.codec_context.options = {"err_detect": "explode"}
        self.period = float(1 / (video.average_rate or video.guessed_rate or 25))
        self._zero = 0.0
        self._demuxed = self._container.demux(video, audio)
        self._waiting = {video.index: deque(), audio.index: deque()}

        pictures, sounds = self._decode(video, "picture"), self._decode(audio, "sound")
        picture, sound = next(pictures, None), next(sounds, None)
        for first, name in ((picture, "picture"), (sound, "sound")):
            if first is None:
                raise MediaError(
                    f"{self.path} cannot be decoded: no part of its {name} is intact; give another copy"
                )
        starts = [float(s.start_time * s.time_base) for s in (video, audio) if s.start_time is not None]
        starts += [t for t in (self._time(picture, video), self._time(sound, audio)) if t is not None]
        self._zero = min(starts, default=0.0)
        self.problems = [(max(0.0, time - self._zero), what) for time, what in self.problems]
        self.begins = self._time(picture, video) or 0.0

        pixel = float(video.codec_context.sample_aspect_ratio or 1)  # its width / its height
        width, height = round(picture.width * (pixel if 0.2 < pixel < 5 else 1)), picture.height
        fitting = math.sqrt(bytes_a_second * self.period / (3 * width * height))
        shrink = min(1.0, max_side / max(width, height), fitting)
        self._coded_size = (picture.width, picture.height)
        self._size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        self.upright_size = (height, width) if orientation(picture)[0] % 2 else (width, height)
        self._reformatter = VideoReformatter()
        self.pictures = self._timed(itertools.chain([picture], pictures))
        self.sounds = self._resampled(itertools.chain([sound], sounds))

    # -- packets, frames and their times --

    def _packets(self, stream: Stream) -> Iterator[av.Packet]:
        queue, failed, last = self._waiting[stream.index], False, 0.0
        while True:
            if queue:
                yield queue.popleft()
                continue
            try:
                packet = next(self._demuxed)
            except StopIteration:
                return
            except IndexError:  # a stream that begins in mid-file: PyAV does not know it, nor need we
                self._demuxed = self._container.demux(self.video, self.audio)
                continue
            except av.FFmpegError:
                self.problems.append((last, "unreadable part of the file"))
                if failed:  # twice without a packet between: nothing more will come
                    return
                failed, self._demuxed = True, self._container.demux(self.video, self.audio)
                continue
            failed = False
            if packet.dts is not None:
                last = float(packet.dts * packet.time_base) - self._zero
            self._waiting[packet.stream.index].append(packet)

    def _decode(self, stream: Stream, name: str) -> Iterator[Frame]:
        time = 0.0
        for packet in self._packets(stream):
            ticks = packet.dts if packet.pts is None else packet.pts
            if ticks is not None:
                time = float(ticks * stream.time_base) - self._zero
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

    def _time(self, frame: Frame, stream: Stream) -> float | None:
        """Seconds on the clock at which ``frame`` begins, ``None`` if the file does not say."""
        ticks = frame.dts if frame.pts is None else frame.pts
        if stream is self.video and self._is_avi:
            # AVI numbers frames in the order of decoding; they are shown later by the depth of reordering.
            ticks = None if frame.dts is None else frame.dts - stream.codec_context.reorder_depth
        return None if ticks is None else float(ticks * stream.time_base) - self._zero

    @property
    def _is_avi(self) -> bool:
        return self._container.format.name == "avi"

    @property
    def promised_end(self) -> float | None:
        """Seconds at which the picture, or else the file, ends according to the header, if it says so."""
        if self._container.format.name in ("mpeg", "mpegts"):  # no header: FFmpeg would guess
            return None
        if self.video.duration:
            ticks = (self.video.start_time or 0) + self.video.duration
            return float(ticks * self.video.time_base) - self._zero
        return self._container.duration / av.time_base if self._container.duration else None

    def measured_end(self) -> float:
        """Seconds at which the last packet of the picture ends; reads what is left of the file."""
        ends = [p.pts + (p.duration or 0) for p in self._packets(self.video) if p.pts is not None]
        return max(self.begins, float(max(ends, default=0) * self.video.time_base) - self._zero)

    # -- picture --

    def _timed(self, frames: Iterable[av.VideoFrame]) -> Iterator[tuple[float, float, av.VideoFrame]]:
        time, current = -self.period, None
        for frame in frames:
            found = self._time(frame, self.video)
            if found is None:
                found = time + self.period
                if not self._is_avi:  # there the frames kept back for reordering come out without one
                    self.problems.append((found, "frame without a timestamp, placed at the mean frame rate"))
            if current is not None:
                if not time < found < time + LONGEST_LEAP:
                    self.problems.append((time, "frame with an impossible timestamp, left out"))
                    continue
                yield time, found, current
            time, current = found, frame
        lasts = float((current.duration or 0) * self.video.time_base)
        yield time, time + (lasts if 0 < lasts < LONGEST_LEAP else self.period), current

    def rgb(self, frame: av.VideoFrame, time: float) -> np.ndarray:
        """The frame of the time ``time``, upright, ``(H, W, 3)`` uint8; all have the first one's size."""
        size = (frame.width, frame.height)
        self._check_size(*size)
        if size != self._coded_size:
            self.problems.append((time, "frame of another size, resized to the first one's"))
        method = "BILINEAR" if size == self._size else "AREA"
        image = self._reformatter.reformat(frame, *self._size, format="rgb24", interpolation=method)
        turns, mirrored = orientation(frame)
        pixels = image.to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, turns))

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise MediaError(
                f"{self.path} has frames of {width}x{height} pixels; expected at most 8192x8192, shrink it"
            )

    # -- sound --

    def _resampled(self, frames: Iterable[av.AudioFrame]) -> Iterator[tuple[int, np.ndarray]]:
        run: _Run | None = None
        for frame in frames:
            time = self._time(frame, self.audio)
            if run is not None:
                time = run.ends if time is None else time
                if abs(time - run.ends) > LONGEST_LEAP:
                    self.problems.append((run.ends, "piece of sound with an impossible timestamp, left out"))
                    continue
                if abs(time - run.ends) > DRIFT or run.form != _form(frame):
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
            self.problems.append((run.ends, "piece of sound in a form that cannot be converted, left out"))


class _Run:
    """Sound without a break: resampled as one piece, and placed by its first timestamp.

    Attributes:
        form: format of its frames.
        ends: time in seconds at which the next frame should begin.
    """

    def __init__(self, frame: av.AudioFrame, time: float, sample_rate: int) -> None:
        self.form, self.ends = _form(frame), time
        self._index = math.floor(time * sample_rate + 0.5)
        # To integers: FFmpeg then scales the mix of channels so that it cannot leave [-1, 1].
        self._resampler = av.AudioResampler("s32", "mono", sample_rate)

    def push(self, frame: av.AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        """The chunks that ``frame`` completes, each with its first index; ``None`` gives the rest."""
        if frame is not None:
            self.ends += frame.samples / frame.sample_rate
        for chunk in self._resampler.resample(frame):
            if chunk is not None:
                samples = chunk.to_ndarray()[0].astype(np.float32) / 2**31  # (S,)
                yield self._index, samples
                self._index += len(samples)


def _form(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Quarter turns anticlockwise that set a frame upright, and whether to mirror it before.

    The display matrix holds [a b u; c d v; x y w] as 32-bit fixed-point numbers; a stored point (p, q)
    is shown at (a p + c q, b p + d q), with q pointing down. Other angles go to the nearest quarter.
    """
    matrix = next((s for s in frame.side_data if s.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4")[:5] / 65536
    mirrored = bool(a * d - b * c < 0)
    if mirrored:
        a, b = -a, -b
    return round(math.atan2(-b, a) / (math.pi / 2)) % 4, mirrored


def _open(path: Path) -> av.container.InputContainer:
    if not exists(path):
        raise MediaError(f"{path} does not exist, or cannot be reached; give the path of a video file")
    if not path.is_file():
        raise MediaError(f"{path} is not a file; give the path of a video file")
    try:
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes); give a video file with sound")
        # Absolute, so that no name is taken for a protocol; file only, so that no playlist reaches out.
        options = {"protocol_whitelist": "file"}
        return av.open(str(path.resolve()), metadata_errors="replace", options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(
            f"{path} cannot be read as a media file ({reason}); expected MP4, MKV, WebM, AVI or MPEG"
        ) from None

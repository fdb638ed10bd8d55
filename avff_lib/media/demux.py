"""`Demuxer`: the packets and frames of the two streams of a file that are used."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os.path import exists  # also False without permission to look
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from avff_lib.errors import MediaError
from avff_lib.media.audio import Problems

DECODE_AHEAD = 4  # packets of video that are decoded while earlier frames are processed


class Demuxer:
    """An open file, from which two streams are read.

    Packets of the stream that is ahead wait undecoded, so badly interleaved files need little memory.

    Attributes:
        container: PyAV's.
        video, audio: the streams that are used.
        zero: of the clock, in seconds by the timestamps of the file.
        ahead: packets of video to decode ahead.
    """

    def __init__(
        self, container: InputContainer, video: VideoStream, audio: AudioStream, problems: Problems
    ) -> None:
        """Damaged pieces are added to ``problems``."""
        self.container = container
        self.video, self.audio = video, audio
        self.zero = 0.0
        self.ahead = 0
        self._problems = problems
        self._decoder = ThreadPoolExecutor(max_workers=1)
        self._demux()

    def close(self) -> None:
        self._decoder.shutdown(cancel_futures=True)
        self.container.close()

    def seek(self, time: float) -> bool:
        """Continue at the key frame before ``time``, in seconds; return whether that succeeded."""
        self._decoder.shutdown(cancel_futures=True)  # also waits for running decodes
        self._decoder = ThreadPoolExecutor(max_workers=1)
        assert self.video.time_base is not None
        try:
            self.container.seek(math.floor((time + self.zero) / self.video.time_base), stream=self.video)
        except av.FFmpegError:
            return False
        self._demux()
        return True

    def _demux(self) -> None:
        self._demuxed: Iterator[av.Packet] = self.container.demux(self.video, self.audio)
        self._waiting: dict[int, deque[av.Packet]] = {s.index: deque() for s in (self.video, self.audio)}

    def packets(self, stream: Stream) -> Iterator[av.Packet]:
        """The packets of ``stream``, in order."""
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
                self._demuxed = self.container.demux(self.video, self.audio)
                continue
            except av.FFmpegError:
                self._problems.append((last, "unreadable part of the file"))
                if failed:  # twice in a row: nothing more can be read
                    return
                failed = True
                self._demuxed = self.container.demux(self.video, self.audio)
                continue
            failed = False
            if packet.dts is not None:
                last = seconds(packet.dts, packet) - self.zero
            self._waiting[packet.stream.index].append(packet)

    def packets_from_key(self, time: float) -> Iterator[av.Packet]:
        """The packets of the video from the last key frame before ``time`` on."""
        packets = self.packets(self.video)
        held: list[av.Packet] = []
        starts, key = [0], -math.inf  # possible beginnings in ``held``; time of the last key frame
        for packet in packets:
            ticks = packet.dts if packet.pts is None else packet.pts
            begin = math.inf if ticks is None else seconds(ticks, packet) - self.zero
            if packet.is_keyframe and begin <= time:
                starts.append(len(held))
                key = begin
            elif begin < key:  # shown before the key frame, and depends on earlier frames
                starts.pop()
                key = -math.inf
            held.append(packet)
            if begin > time:
                break
        yield from held[starts[-1] :]
        yield from packets

    def decode(self, stream: VideoStream | AudioStream, packets: Iterable[av.Packet]) -> Iterator[Any]:
        """The frames of ``stream``: `av.VideoFrame` or `av.AudioFrame`, as PyAV decides by the stream."""
        name, time = ("picture" if stream is self.video else "sound"), 0.0
        failed: set[int] = set()  # timestamps of pictures that could not be decoded
        # AVI frames need the reordering depth as of their own packet (see `time`).
        ahead = stream is self.video and not self.is_avi
        decoding = self._decode_ahead(packets) if ahead else ((p, p.decode) for p in packets)
        for packet, decoded in decoding:
            ticks = packet.dts if packet.pts is None else packet.pts
            if ticks is not None:
                time = seconds(ticks, packet) - self.zero
            try:
                frames = decoded()
            except av.EOFError:
                return
            except av.FFmpegError:
                self._problems.append((time, f"damaged piece of {name}"))
                if stream is self.video and packet.pts is not None:
                    failed.add(packet.pts)
                continue
            for frame in frames:
                if frame.pts in failed:  # it is still output, partly with old memory contents
                    continue
                if frame.is_corrupt:
                    self._problems.append((time, f"damaged piece of {name}"))
                yield frame

    def _decode_ahead(
        self, packets: Iterable[av.Packet]
    ) -> Iterator[tuple[av.Packet, Callable[[], list[Any]]]]:
        """Each packet, with a function that returns its frames; another thread decodes `ahead` more.

        FFmpeg's own frame threads would do the same. But after a damaged piece they may lose everything that
        follows, and frames differ from run to run.
        """
        waiting: deque[tuple[av.Packet, Future[list[Any]]]] = deque()
        for packet in packets:
            waiting.append((packet, self._decoder.submit(packet.decode)))
            if len(waiting) > self.ahead:
                first, decoded = waiting.popleft()
                yield first, decoded.result
        while waiting:
            first, decoded = waiting.popleft()
            yield first, decoded.result

    def time(self, frame: av.VideoFrame | av.AudioFrame, stream: VideoStream | AudioStream) -> float | None:
        """Start of ``frame`` on the clock in seconds, ``None`` if it has no timestamp."""
        ticks = frame.dts if frame.pts is None else frame.pts
        if stream is self.video and self.is_avi:
            # AVI numbers frames in decoding order; they are shown later by the reordering depth.
            ticks = None if frame.dts is None else frame.dts - self.video.codec_context.reorder_depth
        return None if ticks is None else seconds(ticks, stream) - self.zero

    @property
    def is_avi(self) -> bool:
        """Whether the container has no timestamps."""
        return self.container.format.name == "avi"


def open_container(path: Path) -> InputContainer:
    """Open a file.

    Raises:
        MediaError: it is not a file, or not a media file.
    """
    if not exists(path):
        raise MediaError(f"{path} does not exist, or cannot be reached; give the path of a video file")
    if not path.is_file():
        raise MediaError(f"{path} is not a file; give the path of a video file")
    try:
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes); give a video file with sound")
        # Absolute, so that no name is mistaken for a protocol; files only, so that no playlist opens a
        # connection.
        options = {"protocol_whitelist": "file"}
        return av.open(str(path.resolve()), metadata_errors="replace", options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(
            f"{path} cannot be read as a media file ({reason}); expected MP4, MKV, WebM, AVI or MPEG"
        ) from None


def seconds(ticks: int, timed: Stream | av.Packet) -> float:
    """Timestamp or duration in units of the stream's or packet's time base -> seconds."""
    assert timed.time_base is not None  # every stream and packet of an open file has one
    return ticks * timed.time_base.numerator / timed.time_base.denominator

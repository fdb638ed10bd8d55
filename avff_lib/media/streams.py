"""The two streams of an open media file, decoded in order, on one clock.

FFmpeg decodes, through PyAV (https://pyav.basswood-io.com); `avff_lib.media.decode` makes clips from this.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from avff_lib.errors import MediaError
from avff_lib.media.audio import MAX_TIMESTAMP_JUMP, Problems, Resampler, audible_track
from avff_lib.media.demux import DECODE_AHEAD, Demuxer, open_container, seconds
from avff_lib.media.facts import encoder_of
from avff_lib.media.picture import PLANAR_FORMATS, ArrayPicture, Picture, PlanarPicture

MAX_PIXELS = 8192**2  # larger frames are refused: they are mistakes or attacks, not talking heads
MAX_REORDERING = 16  # frames between decoding and showing one, in any codec
# Containers with an index, and with a time for every frame; in others FFmpeg estimates positions.
SEEKABLE = {"mp4", "matroska"}
SEEK_AHEAD = 0.5  # seconds of audio to decode before it is needed, as its frames build on each other
MIN_SEEK = 1.0  # seconds; for earlier positions, decoding from the beginning is as fast

TimedFrame = tuple[float, float, av.VideoFrame | None]  # start and end in seconds


class Streams:
    """Video and audio of a file, decoded on demand.

    The clock is the file's own, with the earliest start of the two streams as zero, so an offset between
    video and audio is kept.

    Attributes:
        video, audio: PyAV's streams.
        frame_period: mean seconds from one frame to the next.
        start: time of the first frame, in seconds.
        upright_size: width and height of the upright frames, before any shrinking.
        encoder: name and version of the video's encoder, from user data in it; empty if there is none.
        frames: iterator over video frames as (start, end, frame), in seconds; without pictures the frame is
            ``None``.
        chunks: iterator over mono audio, see `avff_lib.media.audio.Chunk`.
        problems: (time in seconds, description) of each damaged piece so far.
        notes: sentences that hold for the whole file.

    Raises:
        MediaError: not a media file, empty, without video or audio, undecodable, or with frames too large.
    """

    def __init__(
        self,
        path: Path,
        sample_rate: int,
        max_side: int,
        bytes_per_second: float = math.inf,
        audio_stream: int | None = None,
        pictures: bool = True,
        listen: Callable[[av.AudioFrame], None] | None = None,
    ) -> None:
        """Open a file.

        Args:
            path: of the file.
            sample_rate: of the chunks, in Hz.
            max_side, bytes_per_second: frames are shrunk to this many pixels, and to this rate of RGB video.
            audio_stream: number of the audio track, from 1; by default the one that players play, or another
                if that is silent or cannot be decoded.
            pictures: whether to decode more than the first frame.
            listen: receives each piece of sound as it was decoded, before it is resampled.
        """
        self.path = path
        self.sample_rate = sample_rate
        self._max_side, self._bytes_per_second, self._pictures = max_side, bytes_per_second, pictures
        self._listen = listen
        self.problems: Problems = []
        container = open_container(path)
        try:
            self._track, note = self._pick_track(container, audio_stream)
            self.notes = (note,) if note else ()
            self._begin(container)
        except BaseException:
            container.close()
            raise

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self._demuxer.close()
        # They refer back here, so a decoder's memory would stay until the cycle is collected.
        del self.frames, self.chunks, self._resampler

    def _pick_track(self, container: InputContainer, audio_stream: int | None) -> tuple[int, str | None]:
        """Index among the audio tracks, and a sentence if it is not the default one."""
        tracks = container.streams.audio
        if not tracks:
            raise MediaError(
                f"{self.path} has no sound, so lips cannot be compared with a voice; its picture alone is "
                "not scored; give a file with both picture and sound"
            )
        if audio_stream is not None:
            if not 1 <= audio_stream <= len(tracks):
                raise MediaError(
                    f"{self.path} has no sound track {audio_stream}; expected a number from 1 to "
                    f"{len(tracks)}"
                )
            return audio_stream - 1, None
        best = container.streams.best("audio")
        default = tracks.index(best) if best in tracks else 0
        if len(tracks) == 1:
            return default, None
        with open_container(self.path) as searched:
            return audible_track(searched, default)

    def _begin(self, container: InputContainer) -> None:
        """Decode the first frame of each stream; they determine the clock's zero and the frame size."""
        video, audio = self._picture_stream(container), container.streams.audio[self._track]
        for stream, name in ((video, "picture"), (audio, "sound")):
            if stream.codec_context is None:
                raise MediaError(
                    f"{self.path} cannot be decoded: its {name} is in an unknown format; convert it"
                )
        self.video, self.audio = video, audio
        self._check_size(video.codec_context.width, video.codec_context.height)
        # By default, the decoder conceals broken parts with other frames, without an error.
        video.codec_context.options = {"err_detect": "explode"}
        self.frame_period = float(1 / (video.average_rate or video.guessed_rate or 25))
        announced_rate = audio.codec_context.sample_rate
        self._demuxer = demuxer = Demuxer(container, video, audio, self.problems)

        packets: Iterator[av.Packet] = demuxer.packets(video)
        if not self._pictures:
            packets, all_packets = itertools.tee(packets)
        video_frames = demuxer.decode(video, packets)
        audio_frames = demuxer.decode(audio, demuxer.packets(audio))
        first_video, first_audio = next(video_frames, None), next(audio_frames, None)
        if first_video is None or first_audio is None:
            name = "picture" if first_video is None else "sound"
            raise MediaError(
                f"{self.path} cannot be decoded: no part of its {name} is intact; give another copy"
            )
        starts = [seconds(s.start_time, s) for s in (video, audio) if s.start_time is not None]
        first_times = (demuxer.time(first_video, video), demuxer.time(first_audio, audio))
        starts += [time for time in first_times if time is not None]
        demuxer.zero = min(starts, default=0.0)
        self.problems[:] = [(max(0.0, time - demuxer.zero), what) for time, what in self.problems]
        self.start = demuxer.time(first_video, video) or 0.0
        self._set_size(first_video)
        self._resampler = Resampler(
            first_audio,
            self.sample_rate,
            announced_rate,
            lambda frame: demuxer.time(frame, audio),
            seconds(1, audio),
            self.problems,
        )
        demuxer.ahead = DECODE_AHEAD  # only now, as a seek may follow the first frame
        audio_frames = itertools.chain([first_audio], audio_frames)
        self.chunks = self._resampler.from_beginning(self._heard(audio_frames))
        if self._pictures:
            self.frames = self._timed(self._decoded(itertools.chain([first_video], video_frames)))
        else:
            self.frames = self._timed(self._undecoded(all_packets))

    def _picture_stream(self, container: InputContainer) -> VideoStream:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:  # cover art
            raise MediaError(f"{self.path} has no picture; give a file with both picture and sound")
        assert isinstance(stream, VideoStream)
        return stream

    def _set_size(self, frame: av.VideoFrame) -> None:
        self._coded_size = (frame.width, frame.height)
        pixel_aspect = float(self.video.codec_context.sample_aspect_ratio or 1)  # width / height of a pixel
        if not 0.2 < pixel_aspect < 5:
            pixel_aspect = 1.0
        self._stretched = pixel_aspect != 1.0
        width, height = round(frame.width * pixel_aspect), frame.height
        fitting = math.sqrt(self._bytes_per_second * self.frame_period / (3 * width * height))
        shrink = min(1.0, self._max_side / max(width, height), fitting)
        self._size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        self._rotation, self._orientation = frame.rotation, orientation(frame)
        self.encoder = encoder_of(user_data(frame))
        self.upright_size = (height, width) if self._orientation[0] % 2 else (width, height)
        self._reformatter = VideoReformatter()

    def rewind(self) -> None:
        """Go back to the beginning."""
        self._demuxer.close()
        self.problems.clear()
        self._begin(open_container(self.path))

    def seek(self, time: float) -> None:
        """Continue at a key frame before ``time`` seconds.

        From ``time`` on, frames and chunks are the same as without seeking. If that is not possible, they
        come from the beginning. Call it before reading anything.
        """
        formats = set(self._demuxer.container.format.name.split(","))
        if time >= MIN_SEEK and SEEKABLE & formats and not self._sought(time):
            self.rewind()

    def _sought(self, time: float) -> bool:
        """Whether ``frames`` and ``chunks`` now continue before ``time``."""
        demuxer = self._demuxer
        if not demuxer.seek(time - SEEK_AHEAD):
            return False
        self.problems.clear()
        packets = demuxer.packets_from_key(time)
        shown = (
            self._decoded(demuxer.decode(self.video, packets)) if self._pictures else self._undecoded(packets)
        )
        # Frames shown before the key frame depend on others, which were not decoded.
        frames = itertools.dropwhile(lambda frame: not frame.is_key, shown)
        key = next(frames, None)
        # Decoding cannot begin at every frame that FFmpeg calls a key frame.
        if key is None or key.time is None or key.time > time or self.problems:
            return False
        audio_frames = demuxer.decode(self.audio, demuxer.packets(self.audio))
        chunks = self._resampler.from_middle(audio_frames, time - SEEK_AHEAD / 2)
        if chunks is None:
            return False
        self.problems.clear()
        self.frames, self.chunks = self._timed(itertools.chain([key], frames)), chunks
        return True

    @property
    def header_end(self) -> float | None:
        """End of the video, or else of the file, in seconds according to the header; ``None`` if unknown."""
        if self._demuxer.container.format.name in ("mpeg", "mpegts"):  # no header: FFmpeg would guess
            return None
        if self.video.duration:
            ticks = (self.video.start_time or 0) + self.video.duration
            return seconds(ticks, self.video) - self._demuxer.zero
        return self._demuxer.container.duration / av.time_base if self._demuxer.container.duration else None

    def end(self) -> float:
        """End of the video in seconds, from the header, or else measured by reading the file."""
        if self.header_end is not None:
            return self.header_end
        ends = [p.pts + (p.duration or 0) for p in self._demuxer.packets(self.video) if p.pts is not None]
        end = max(self.start, seconds(max(ends, default=0), self.video) - self._demuxer.zero)
        self.rewind()
        return end

    # -- audio --

    def _heard(self, frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
        for frame in frames:
            if self._listen is not None:
                self._listen(frame)
            yield frame

    # -- video --

    def _decoded(self, frames: Iterable[av.VideoFrame]) -> Iterator[_Shown]:
        """The frames with their times of display, from decoded frames."""
        for frame in frames:
            duration = seconds(frame.duration or 0, self.video)
            yield _Shown(self._demuxer.time(frame, self.video), duration, frame.key_frame, frame)

    def _undecoded(self, packets: Iterable[av.Packet]) -> Iterator[_Shown]:
        """The frames with their times of display, from packets alone, which are in decoding order."""
        waiting: list[tuple[float, float, bool]] = []
        for packet in packets:
            ticks = packet.dts if packet.pts is None else packet.pts
            if ticks is None:
                continue
            shown = (seconds(ticks, packet), seconds(packet.duration or 0, packet), packet.is_keyframe)
            heapq.heappush(waiting, shown)
            if len(waiting) > MAX_REORDERING:
                time, duration, is_key = heapq.heappop(waiting)
                yield _Shown(time - self._demuxer.zero, duration, is_key, None)
        for time, duration, is_key in sorted(waiting):
            yield _Shown(time - self._demuxer.zero, duration, is_key, None)

    def _timed(self, shown: Iterable[_Shown]) -> Iterator[TimedFrame]:
        """Each frame with its start and end in seconds; a frame ends where the next one starts."""
        start = -self.frame_period
        current: _Shown | None = None
        for following in shown:
            next_start = following.time
            if next_start is None:
                next_start = start + self.frame_period
                if not self._demuxer.is_avi:  # in AVI, frames delayed by reordering have no timestamp
                    self.problems.append(
                        (next_start, "frame without a timestamp, placed at the mean frame rate")
                    )
            if current is not None:
                if not start < next_start < start + MAX_TIMESTAMP_JUMP:
                    self.problems.append((start, "frame with an impossible timestamp, left out"))
                    continue
                yield start, next_start, current.frame
            start, current = next_start, following
        assert current is not None  # there is at least the first frame
        known = 0 < current.duration < MAX_TIMESTAMP_JUMP
        yield start, start + (current.duration if known else self.frame_period), current.frame

    def picture(self, frame: av.VideoFrame, time: float) -> Picture:
        """The frame at ``time`` seconds, upright, in the size of the first one, shrunk to the limits."""
        size = (frame.width, frame.height)
        self._check_size(*size)
        if size != self._coded_size:
            self.problems.append((time, "frame of another size, resized to the first one's"))
        if frame.rotation != self._rotation:
            self._rotation, self._orientation = frame.rotation, orientation(frame)
        turns, mirrored = self._orientation
        as_shown = size == self._coded_size and not (turns or mirrored or self._stretched)
        even = not (self._size[0] % 2 or self._size[1] % 2)  # so that chroma pixels cover whole pixels
        as_planes = as_shown and even and frame.format.name in PLANAR_FORMATS
        method = "BILINEAR" if size == self._size else "AREA"
        width, height = self._size
        image = self._reformatter.reformat(
            frame, width, height, format=None if as_planes else "rgb24", interpolation=method, threads=1
        )
        if as_planes:
            return PlanarPicture(image)
        pixels = image.to_ndarray()
        return ArrayPicture(np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, turns)))

    def _check_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise MediaError(
                f"{self.path} has frames of {width}x{height} pixels; expected at most 8192x8192, shrink it"
            )


class _Shown(NamedTuple):
    """A picture on the screen.

    Attributes:
        time: in seconds, ``None`` if it is not stated.
        duration: in seconds, 0 if it is not stated.
        is_key: whether it depends on no other.
        frame: decoded, ``None`` if it was not.
    """

    time: float | None
    duration: float
    is_key: bool
    frame: av.VideoFrame | None


def orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Anticlockwise quarter turns that make a frame upright, and whether to mirror it before.

    The display matrix holds [a b u; c d v; x y w] as 32-bit fixed-point numbers; a stored point (p, q)
    is shown at (a p + c q, b p + d q), with q pointing down. Other angles are rounded to quarter turns.

    Do not call it for every frame: PyAV's side data and the frame refer to each other, so whole frames would
    stay in memory until Python collects such cycles.
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


def user_data(frame: av.VideoFrame) -> bytes:
    """What an encoder wrote into H.264 or HEVC beside the picture. Only for few frames, see `orientation`."""
    try:
        return bytes(frame.side_data[SideDataType.SEI_UNREGISTERED])  # type: ignore[typeddict-item]  # likewise
    except KeyError:
        return b""

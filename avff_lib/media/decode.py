"""A media file -> `Clip`: frames and audio decoded once, in order, on one clock.

The clock is the file's own, with the earliest start of the two streams as zero. The video stream decides
where a file ends. Missing frames are not replaced, missing audio becomes zeros, and `Clip.warnings` reports
both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from avff_lib.media.buffer import END_TOLERANCE, MAX_CLIP_BYTES, Buffer, Consumer
from avff_lib.media.clip import Clip, to_samples
from avff_lib.media.facts import STREAM_TAGS, WRITER_TAGS, MediaInfo, MediaObserver, clean_tag
from avff_lib.media.picture import Picture
from avff_lib.media.streams import Streams


def probe(path: str | Path, *, audio_stream: int | None = None) -> MediaInfo:
    """Describe a file, decoding only the first frame of each stream.

    Raises:
        MediaError: the file cannot be decoded (see `read_clip`).
    """
    with Streams(Path(path), 16_000, 1280, audio_stream=audio_stream) as streams:
        return _describe(streams, streams.end())


def _describe(streams: Streams, duration: float) -> MediaInfo:
    width, height = streams.upright_size
    audio, container = streams.audio.codec_context, streams.video.container
    return MediaInfo(
        duration=duration,
        width=width,
        height=height,
        frame_rate=float(streams.video.average_rate or 0),
        video_codec=streams.video.codec_context.codec.canonical_name,
        sample_rate=audio.sample_rate,
        channels=audio.channels,
        audio_codec=audio.codec.canonical_name,
        writer=_writer(streams),
        container=container.format.name,
    )


def _writer(streams: Streams) -> str:
    """Tags of the file and of its video, and the encoder's name inside the video, each once."""
    of_file, of_video = (
        {name.lower(): clean_tag(value) for name, value in tagged.metadata.items()}
        for tagged in (streams.video.container, streams.video)
    )
    tags = [of_file.get(name) for name in WRITER_TAGS] + [of_video.get(name) for name in STREAM_TAGS]
    return ", ".join(dict.fromkeys(tag for tag in [*tags, streams.encoder] if tag))


def read_clip(
    path: str | Path,
    start: float | None = 0.0,
    duration: float | None = None,
    *,
    sample_rate: int = 16_000,
    max_side: int = 1280,
    audio_stream: int | None = None,
    frame_times: np.ndarray | None = None,
) -> Clip:
    """Read the window [start, start + duration) of a file.

    Decoding begins at a key frame before the window in containers with exact seeking (MP4 and Matroska), and
    at the beginning of the file in others; the result is the same.

    Args:
        start: seconds on the file's clock; ``None`` puts the window into the middle of the video.
        duration: seconds; ``None`` reads to the end of the video.
        sample_rate: rate that the audio is resampled to, in Hz.
        max_side: frames with a longer side than this many pixels are shrunk to it.
        audio_stream: number of the audio track, from 1; by default the one that players play, or, if that is
            silent or damaged throughout, another one, with a warning.
        frame_times: seconds from ``start``; only the frames nearest to these are kept; if it is empty, no
            video is decoded.

    Raises:
        MediaError: not a media file, empty, without video or audio, undecodable, too short for the window, or
            too long to hold in memory.
    """
    if (start is not None and start < 0) or (duration is not None and duration <= 0):
        raise ValueError(f"start is {start} and duration {duration}; expected start >= 0 and duration > 0")
    pictures = frame_times is None or len(frame_times) > 0
    with Streams(Path(path), sample_rate, max_side, audio_stream=audio_stream, pictures=pictures) as streams:
        if start is None:
            start = 0.0 if duration is None else max(0.0, (streams.end() - duration) / 2)
        streams.seek(start)
        buffer = Buffer(streams, frame_times=None if frame_times is None else start + frame_times)
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
    audio_stream: int | None = None,
) -> Iterator[Clip]:
    """Read a whole file as windows, in one pass and in memory that does not grow with its length.

    Windows start at the first frame and then every ``hop`` seconds. If the last of them does not reach the
    end of the video, one more window ends there, so that every frame is in a window (if ``hop <= duration``).

    Args:
        duration: of each window, in seconds.
        hop: seconds from one window's start to the next.
        min_duration: a file shorter than one window, but at least this many seconds long, gives one shorter
            window; by default it must fill a whole one.
        sample_rate, max_side: as in `read_clip`; frames are shrunk further if those of a window and a hop
            would exceed half of `MAX_CLIP_BYTES`, as at 120 frames per second.
        audio_stream: as in `read_clip`.

    Raises:
        MediaError: as in `read_clip`; too short means shorter than ``min_duration``.
    """
    if duration <= 0 or hop <= 0:
        raise ValueError(f"duration is {duration} and hop {hop}; expected both > 0")
    # The buffer holds a window and a hop, and each window is a copy of a part of it.
    bytes_per_second = MAX_CLIP_BYTES / (2 * (duration + hop))
    with Streams(Path(path), sample_rate, max_side, bytes_per_second, audio_stream) as streams:
        buffer = Buffer(streams, lambda picture, _: picture.rgb())
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


def iter_pieces(
    path: str | Path,
    seconds: float,
    consume: Consumer,
    *,
    lookahead: float = 0.0,
    min_duration: float = 0.0,
    sample_rate: int = 16_000,
    max_side: int = 1920,
    max_frame_rate: float = 60.0,
    audio_stream: int | None = None,
    observer: MediaObserver | None = None,
) -> Iterator[tuple[Clip, bool]]:
    """Read a whole file as consecutive pieces that do not overlap, in one pass and in bounded memory.

    Whole frames are not kept: each is passed to ``consume`` once, in order, and the returned value replaces
    it in `Clip.frames`. The first piece begins at the first frame, and joined together the waveforms of the
    pieces are the file's, to the sample. Each frame is in only one piece, so a piece in which the picture
    freezes may have none.

    Args:
        seconds: length of a piece; the last one may be shorter, or longer by up to ``lookahead`` or half a
            frame.
        consume: takes a frame and its time in seconds; returns a small array, ``(h, w, 3)`` uint8, of the
            same shape for every frame.
        lookahead: seconds beyond the end of a piece up to which frames are consumed before it is yielded.
        min_duration: shortest length of a file, in seconds; up to `END_TOLERANCE` of it are filled with
            silence.
        sample_rate, max_side, audio_stream: as in `read_clip`.
        max_frame_rate: in frames per second; at higher rates, some frames are left out.
        observer: receives everything that is decoded.

    Returns:
        Pairs of a piece and whether it is the last.

    Raises:
        MediaError: as in `read_clip`; too short means shorter than ``min_duration``.
    """

    def shown(picture: Picture, time: float) -> np.ndarray | Picture:
        if observer is not None:
            observer.add_picture(picture, time)
        return consume(picture, time)

    listen = None if observer is None else observer.add_sound
    with Streams(Path(path), sample_rate, max_side, audio_stream=audio_stream, listen=listen) as streams:
        buffer = Buffer(streams, shown, max_frame_rate=max_frame_rate)
        shortest = max(streams.frame_period / 2, 1 / sample_rate)
        size = to_samples(seconds, sample_rate)
        seconds = size / sample_rate
        first, last = to_samples(streams.start, sample_rate), False
        beginning = first / sample_rate
        while not last:
            start, end = first / sample_rate, (first + size) / sample_rate
            # The rest after a piece must be long enough for its own lookahead.
            margin = max(lookahead, shortest)
            buffer.read_until(end + margin)
            last = buffer.video_end < end + margin
            duration = seconds
            if last:
                buffer.check_length(beginning + min_duration)
                duration = max(buffer.video_end, beginning + min_duration) - start
                if observer is not None:
                    observer.finish(
                        _describe(streams, streams.header_end or buffer.video_end),
                        (streams.start, buffer.video_end),
                        (buffer.audio_start or 0.0, buffer.audio_end),
                    )
            yield buffer.take(start, duration), last
            first += size

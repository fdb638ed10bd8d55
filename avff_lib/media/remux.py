"""Picture and sound that were published separately -> one file, without re-encoding."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream

from avff_lib.errors import MediaError
from avff_lib.utils.atomic import atomic_write


def join_streams(picture: Path, sound: Path, out: Path) -> None:
    """Copy the first video stream of one file and the first audio stream of another into an MP4.

    Raises:
        MediaError: one of the two cannot be read, or has no such stream.
    """
    try:
        with (
            av.open(str(picture)) as video,
            av.open(str(sound)) as audio,
            atomic_write(out) as partial,
            av.open(str(partial), "w", format="mp4") as file,
        ):
            if not video.streams.video or not audio.streams.audio:
                raise MediaError(f"{picture} has no picture, or {sound} no sound; expected one of each")
            copies = [
                (container, stream, file.add_stream_from_template(stream))
                for container, stream in ((video, video.streams.video[0]), (audio, audio.streams.audio[0]))
            ]
            packets = (_packets(*copy) for copy in copies)
            for packet in heapq.merge(*packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
                file.mux(packet)
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{picture} and {sound} cannot be joined ({error}); download them again") from None


def _packets(container: InputContainer, stream: Stream, copy: Stream) -> Iterator[av.Packet]:
    """The packets of a stream, assigned to its copy, in decoding order."""
    for packet in container.demux(stream):
        if packet.dts is not None:  # the last one is empty and only flushes
            packet.stream = copy
            yield packet

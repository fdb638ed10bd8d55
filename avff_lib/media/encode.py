"""`Clip` -> a video file that `avff_lib.media.decode` reads back with the same times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avff_lib.errors import MediaError
from avff_lib.media.clip import Clip
from avff_lib.utils.atomic import atomic_write

TICKS_PER_SECOND = 90_000  # resolution of the frames' times, usual in MPEG
AUDIO_BIT_RATE = 64_000  # bits per second, ample for mono speech


def write_clip(clip: Clip, path: str | Path, *, crf: int = 23, comment: str = "") -> None:
    """Write a clip as MP4 (H.264 and AAC); its start becomes the file's zero.

    Every frame keeps its own time, so evenly spaced frames give a constant frame rate. The same clip always
    gives the same bytes: one encoder thread, fixed GOPs, no date. The file appears under its name only when
    it is complete.

    Args:
        clip: frames ``(T, H, W, 3)`` uint8 with even H and W, and a waveform of the same window.
        path: of the file to write; its folder must exist.
        crf: H.264's constant rate factor, 0 (lossless) to 51 (worst).
        comment: text for the file's comment tag, which players show; no tag if it is empty.

    Raises:
        MediaError: the clip is empty or of an odd size, or the file cannot be written.
    """
    path = Path(path)
    if len(clip.frames) == 0 or len(clip.waveform) == 0:
        raise MediaError(f"{path} cannot be written: the clip has no frames or no sound")
    height, width = clip.frames.shape[1:3]
    if height % 2 or width % 2:
        raise MediaError(f"{path} cannot be written: frames are {width}x{height}; H.264 needs even sizes")
    try:
        with atomic_write(path) as partial:
            _encode(clip, partial, crf, comment)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        raise MediaError(f"{path} cannot be written ({reason}); check the folder and the disk") from None


def _encode(clip: Clip, path: Path, crf: int, comment: str) -> None:
    ticks = np.round((clip.times - clip.start) * TICKS_PER_SECOND).astype(int)
    rate = (
        Fraction(TICKS_PER_SECOND, int(np.median(np.diff(ticks))))
        if len(ticks) > 1
        else Fraction(1 / clip.duration)
    )
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path.resolve()), "w", format="mp4", options=options) as container:
        if comment:
            container.metadata["comment"] = comment
        video = container.add_stream("libx264", rate=rate.limit_denominator(1001))
        video.height, video.width = clip.frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.time_base = Fraction(1, TICKS_PER_SECOND)
        # At some widths, x264's macroblock tree gives different bytes in each run; without it they repeat.
        video.options = {
            "crf": str(crf),
            "preset": "veryfast",
            "g": "25",
            "sc_threshold": "0",
            "mbtree": "0",
        }
        audio = container.add_stream("aac", rate=clip.sample_rate, layout="mono")
        audio.bit_rate = AUDIO_BIT_RATE
        # Audio first: the muxer's buffer interleaves it with the frames that follow.
        samples = np.clip(clip.waveform, -1, 1)[None].astype(np.float32)  # (1, S)
        samples_frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        samples_frame.sample_rate = clip.sample_rate
        samples_frame.time_base = Fraction(1, clip.sample_rate)
        samples_frame.pts = 0
        container.mux([*audio.encode(samples_frame), *audio.encode(None)])
        for image, tick in zip(clip.frames, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = int(tick), Fraction(1, TICKS_PER_SECOND)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))

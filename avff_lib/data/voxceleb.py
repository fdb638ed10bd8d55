"""Join the silent videos of VoxCeleb2 (Chung et al. 2018) with their separate sound files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from avff_lib.errors import AVFFError
from avff_lib.media.remux import join_streams
from avff_lib.utils.files import find_videos
from avff_lib.utils.parallel import parallel_map

PARTS = ("dev", "test")


def join_sound(root: Path, out: Path, *, workers: int | None = None) -> tuple[int, list[str]]:
    """Join ``<part>/mp4/<id>/<video>/<n>.mp4`` and ``<part>/aac/<id>/<video>/<n>.m4a`` of each part.

    Nothing is re-encoded. Files that are already in ``out`` are kept, so that a run can be continued.

    Args:
        root: folder that holds dev/ or test/.
        out: folder for the joined files, with the relative paths of the videos.
        workers: number of processes; by default one per core.

    Returns:
        The number of joined files in ``out``, and one sentence for each video that could not be joined.

    Raises:
        AVFFError: there are no videos.
    """
    videos = [video for part in PARTS for video in find_videos(root / part / "mp4")]
    if not videos:
        raise AVFFError(f"{root} holds no dev/mp4/ or test/mp4/ with videos; give the folder of VoxCeleb2")
    missing = [video for video in videos if not (out / video.relative_to(root)).exists()]
    workers = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    results = parallel_map(
        partial(_join, root, out), missing, workers, description="joining", done=len(videos) - len(missing)
    )
    skipped = [reason for reason in results if reason]
    return len(videos) - len(skipped), skipped


def _join(root: Path, out: Path, video: Path) -> str:
    """Join one video with its sound; return the reason if that is not possible, else nothing."""
    part, _, *inside = video.relative_to(root).parts
    sound = Path(root, part, "aac", *inside).with_suffix(".m4a")
    target = out / video.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        join_streams(video, sound, target)
    except AVFFError as error:
        return str(error)
    return ""

"""How much longer a prediction takes than decoding alone, and how its time is spent.

    python benchmarks/predict.py

Decoding alone means picture and sound with PyAV, in the same process; all take turns. Imports and loading the
detector are not counted.
"""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import torch
import tyro
from films import write_film
from tables import print_tables
from timing import Table, spread, take_turns

from avff_lib import Detector
from avff_lib.data.manifest import Row
from avff_lib.evaluation.evaluate import score_examples
from avff_lib.faces.tracked import iter_tracked

SIZES = {"1080p": (1080, 1920), "240p": (240, 320)}  # height and width
CHECKPOINTS = ("avff-tiny", "avffmae-tiny")
DECODE, DETECT = "media/demux.py:decode", "faces/detect.py:find_faces"
CROP, PREPARE = "faces/crop.py:crop_picture", "preprocess/prepare.py:prepare_batch"
# Stage -> its function, and the functions inside it that are stages themselves.
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "decoding, where it is waited for": (DECODE, ()),
    "face detection": (DETECT, ()),
    "cropping": (CROP, ()),
    "tracking": ("faces/tracked.py:iter_tracked", (DECODE, DETECT, CROP)),
    "preparing windows": (PREPARE, ()),
    "model": ("inference/windows.py:predict_windows", (PREPARE,)),
}
QUICK = {"length": 2.0, "repeats": 1, "sizes": ("240p",)}


def measure(
    length: float = 10.0, repeats: int = 5, sizes: tuple[str, ...] = tuple(SIZES)
) -> dict[str, Table]:
    """Time and profile predictions.

    Args:
        length: of the films, in seconds.
        repeats: timed turns.
        sizes: of their pictures.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    models = {name: Detector.from_pretrained(name) for name in CHECKPOINTS}
    times: Table = {}
    stages: Table = {name: {} for name in (*STAGES, "rest")}
    with TemporaryDirectory() as folder:
        for size in sizes:
            path = write_film(Path(folder, f"{size}.mp4"), length, *SIZES[size])
            row, model = Row(path, 0, "RVRA", "real", "somebody"), models[CHECKPOINTS[0]]
            works: dict[str, Callable[[], object]] = {
                "decoding alone": partial(decode, path),
                "avff predict": partial(model.predict, path),
                "avff evaluate": partial(score_examples, model, [row]),
                "avff prepare": lambda path=path, side=model.spec.image_size: list(iter_tracked(path, side)),
            }
            seconds = take_turns(works, repeats)
            for name, values in seconds.items():
                times[f"{name}, {size}"] = {
                    "seconds": spread(values),
                    "times as long": spread(values / seconds["decoding alone"]),
                }
            for name, detector in models.items():
                for stage, share in profile_stages(partial(detector.predict, path)).items():
                    stages[stage][f"{name}, {size}"] = f"{share:.0%}"
    return {"predict": times, "stages": stages}


def profile_stages(work: Callable[[], object]) -> dict[str, float]:
    """Shares of a prediction's time, which add up to 1; another thread decodes meanwhile."""
    work()
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler)
    total = stats.total_tt

    def seconds(function: str) -> float:
        file, name = function.split(":")
        (found,) = [key for key in stats.stats if key[0].endswith(f"avff_lib/{file}") and key[2] == name]
        return stats.stats[found][3]  # including everything it calls

    shares = {
        stage: (seconds(function) - sum(map(seconds, others))) / total
        for stage, (function, others) in STAGES.items()
    }
    return {**shares, "rest": 1 - sum(shares.values())}


def decode(path: Path) -> None:
    """Decode picture and sound with PyAV, without further processing."""
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0], container.streams.audio[0]):
            packet.decode()


if __name__ == "__main__":
    print_tables(tyro.cli(measure))

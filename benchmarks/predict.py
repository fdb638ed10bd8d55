"""How much longer a prediction takes than decoding alone, on a 1080p file of ten seconds.

    python benchmarks/predict.py

Decoding alone is PyAV's, of picture and sound, in the same process; all are repeated in turn, and the ratios
of their medians are printed. Imports and loading the detector are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
import tyro

from avff_lib import Detector, synth
from avff_lib.data.manifest import Row
from avff_lib.evaluation.evaluate import score_examples
from avff_lib.faces.tracked import iter_tracked
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip

WIDTH, HEIGHT, SECONDS = 1920, 1080, 10


def main(repeats: int = 5, checkpoint: str = "avff-tiny") -> None:
    """Print the ratios.

    Args:
        repeats: runs of each kind, in turn.
        checkpoint: the detector.
    """
    model = Detector.from_pretrained(checkpoint)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_clip(film(), path)
        row = Row(path, 0, "RVRA", "real", "somebody")
        works: dict[str, Callable[[], object]] = {
            "decoding alone": lambda: decode(path),
            "avff predict": lambda: model.predict(path),
            "avff evaluate": lambda: score_examples(model, [row]),
            "avff prepare": lambda: list(iter_tracked(path, model.spec.image_size)),
        }
        for work in works.values():  # the first run of anything is slower
            work()
        times = {name: [] for name in works}
        for _ in range(repeats):
            for name, work in works.items():
                start = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:16} {seconds:6.2f} s  {seconds / medians['decoding alone']:5.2f} x decoding alone")


def film() -> Clip:
    """A drawn head in the middle of a large picture with some grain."""
    plan = next(plan for plan in synth.plan_corpus(clips=20, identities=10, seed=1) if plan.method == "real")
    clip = synth.make_clip(plan)
    frames = np.full((25 * SECONDS, HEIGHT, WIDTH, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        head = clip.frames[index % len(clip.frames)]
        frame[:, 420:1500] = cv2.resize(head, (HEIGHT, HEIGHT), interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(index).integers(-3, 4, (HEIGHT, WIDTH, 1))
        frame[:] = np.clip(frame + grain, 0, 255)
    waveform = np.tile(clip.waveform, 4)[: SECONDS * clip.sample_rate]
    return Clip(frames, np.arange(len(frames)) / 25, waveform, clip.sample_rate, 0.0, float(SECONDS))


def decode(path: Path) -> None:
    """Decode picture and sound with PyAV, and look at nothing."""
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0], container.streams.audio[0]):
            packet.decode()


if __name__ == "__main__":
    tyro.cli(main)

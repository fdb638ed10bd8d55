"""The cost of a corpus: measurements on one core of this machine, and the arithmetic that follows.

    python results/scale.py

It takes a few minutes and fills ``scale.json``. The page *Past one machine* and chapter 18 read that
file; nothing was measured on a cluster.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from common import HERE
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from avff_lib import Detector, synth
from avff_lib.data.manifest import Row
from avff_lib.data.shards import write_shards
from avff_lib.faces.tracked import iter_tracked
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.models import AVFFMAE, AVFFMAEConfig
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.utils.atomic import atomic_write

SECONDS, HEIGHT, WIDTH = 10, 720, 1280  # of the measured film
REPEATS = 3


CORES = 64  # of a node, assumed
GPU = 0.4 * 989e12  # FLOP/s, assumed: 40 % of an H100's peak in bfloat16, without sparsity, by its data sheet
PASSES = 200  # epochs of stage one, each with one window per clip
CORPORA = {  # clips and hours, as their authors state them
    "LRS3, pretraining": (118_516, 408),
    "AV-Deepfake1M": (1_146_760, 1_886),
    "a million clips of ten seconds": (1_000_000, 2_778),
}


@dataclass(frozen=True)
class Measured:
    """Measurements on this machine, each on one core.

    Attributes:
        prepare: seconds of work for a second of video of 1280 x 720 at 25 fps, one face.
        predict: the same, with `avff-tiny`.
        forge: seconds for a second of a forged clip of 360 x 288 pixels.
        shard_bytes: bytes of a second in shards of 224 pixels.
        stage_one, stage_two: FLOPs of a training step of the base `AVFFMAE`, for one window.
    """

    prepare: float
    predict: float
    forge: float
    shard_bytes: float
    stage_one: float
    stage_two: float


def main(out: Path = HERE / "scale.json") -> None:
    """Measure, and write the numbers.

    Args:
        out: JSON file for them.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    stage_one, stage_two = flops()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        write_clip(film(HEIGHT, WIDTH), path)
        row = Row(path, 0, "RVRA", "real", "somebody")
        model = Detector.from_pretrained("avff-tiny")
        measured = Measured(
            prepare=processor_seconds(lambda: list(iter_tracked(path, 224))) / SECONDS,
            predict=processor_seconds(lambda: model.predict(path)) / SECONDS,
            forge=forge_seconds(Path(folder)),
            shard_bytes=shard_bytes(row, Path(folder)),
            stage_one=stage_one,
            stage_two=stage_two,
        )
    with atomic_write(out) as partial:
        result = {"command": "python results/scale.py", **asdict(measured)}
        partial.write_text(json.dumps(result, indent=1) + "\n")
    print(out.read_text())


def measured_table(measured: Measured) -> str:
    """The measurements, as on the page."""
    return f"""\
| | on one core |
|---|---|
| `avff prepare`, a second of 720p video with one face | {measured.prepare:.2f} s |
| `avff predict`, the same, with `avff-tiny` | {measured.predict:.2f} s |
| `avff forge`, a second of a forged clip of 360 x 288 pixels | {measured.forge:.2f} s |
| shards of 224 pixels, a second of a drawn face | {measured.shard_bytes / 1e6:.2f} MB |
| stage one of the base `AVFFMAE`, a window | {measured.stage_one / 1e12:.2f} TFLOP |
| stage two, a window | {measured.stage_two / 1e12:.2f} TFLOP |
"""


def bill(measured: Measured) -> str:
    """The costs of the corpora, as on the page."""
    lines = [
        "| corpus | hours | shards | prepare on 1, 10, 100 nodes | predict on 1, 10, 100 nodes "
        "| stage one on 1, 8, 64 GPUs |",
        "|---|---|---|---|---|---|",
    ]
    for name, (clips, hours) in CORPORA.items():
        node_hours = [hours * seconds / CORES for seconds in (measured.prepare, measured.predict)]
        gpu_hours = PASSES * clips * measured.stage_one / GPU / 3600
        cells = [", ".join(duration(total / nodes) for nodes in (1, 10, 100)) for total in node_hours]
        trained = ", ".join(duration(gpu_hours / gpus) for gpus in (1, 8, 64))
        disk = f"{3600 * hours * measured.shard_bytes / 1e12:.1f} TB"
        lines.append(f"| {name} | {hours:,} | {disk} | {cells[0]} | {cells[1]} | {trained} |")
    return "\n".join(lines) + "\n"


def duration(hours: float) -> str:
    """A duration in the largest unit that gives two or more."""
    for unit, length in (("days", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if hours >= 2 * length:
            return f"{hours / length:.0f} {unit}"
    return f"{3600 * hours:.0f} s"


def processor_seconds(work: Callable[[], object]) -> float:
    """Median processor time of a call, on which other programs have little effect."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return float(np.median(times))


def film(height: int, width: int) -> Clip:
    """A drawn head in a picture with some grain."""
    plan = next(plan for plan in synth.plan_corpus(clips=20, identities=10, seed=1) if plan.method == "real")
    clip = synth.make_clip(plan)
    frames = np.full((25 * SECONDS, height, width, 3), 60, np.uint8)
    left = (width - height) // 2
    for index, frame in enumerate(frames):
        head = clip.frames[index % len(clip.frames)]
        frame[:, left : left + height] = cv2.resize(head, (height, height), interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(index).integers(-3, 4, (height, width, 1))
        frame[:] = np.clip(frame + grain, 0, 255)
    waveform = np.tile(clip.waveform, 4)[: SECONDS * clip.sample_rate]
    return Clip(frames, np.arange(len(frames)) / 25, waveform, clip.sample_rate, 0.0, float(SECONDS))


def forge_seconds(folder: Path) -> float:
    """Seconds of work for a second of clip, over all methods, including the search for faces."""
    from avff_lib.forge import forge

    rows = []
    for number in range(6):
        path = folder / f"{number}.mp4"
        write_clip(film(288, 360), path)
        rows.append(Row(path, 0, "RVRA", "real", f"p{number // 2}"))
    start = time.process_time()
    forged = forge(rows, folder / "forged", workers=1)
    clip_seconds = sum(SECONDS for _ in forged.rows)
    return (time.process_time() - start) / clip_seconds


def shard_bytes(row: Row, folder: Path) -> float:
    """Bytes of a second of film in shards for the base models."""
    write_shards([row], folder / "shards", root=folder, image_size=224, workers=1)
    return sum(file.stat().st_size for file in (folder / "shards").iterdir()) / SECONDS


def flops() -> tuple[float, float]:
    """FLOPs of a step of both stages of the base `AVFFMAE`, forward and backward, for one window."""
    config = AVFFMAEConfig(gradient_penalty=0.0)  # small, and the counter cannot look into its derivative
    model = AVFFMAE(config)
    columns, bands = np.multiply(config.audio_grid, config.audio_patch)
    frames = torch.randn(1, config.frame_count, 3, config.image_size, config.image_size)
    inputs = ModelInputs(frames, torch.randn(1, bands, columns))
    counts = []
    for loss in (
        lambda: sum_of(model.pretraining_loss(inputs, torch.Generator().manual_seed(0))),
        lambda: model(inputs).sum(),
    ):
        # PyTorch counts nothing in the CPU's fused attention, so its single products are counted instead.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss().backward()
        counts.append(float(counter.get_total_flops()))
    return counts[0], counts[1]


def sum_of(logged: dict[str, torch.Tensor]) -> torch.Tensor:
    return logged["loss"] + logged["critic_loss"]


if __name__ == "__main__":
    tyro.cli(main)

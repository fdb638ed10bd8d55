"""A dataset decoded once: face crops and audio in shards that training reads without decoding.

A shard is a safetensors file of up to `SHARD_SIZE` clips. Its header says where each tensor lies, so that
one clip is read without the others; ``index.json`` lists the shards and says what the clips are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from avff_lib.data.examples import Skipped, load_example
from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip
from avff_lib.preprocess.spec import InputSpec
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.parallel import parallel_map

INDEX_NAME = "index.json"
MIN_DURATION = 1.0  # seconds; no model has shorter windows
SHARD_SIZE = 64  # clips; at 64 pixels and 3 s a shard takes 70 MB
FORMAT = 1  # raise it when the same dataset gives other shards
STREAMS = ("frames", "times", "waveform")


@dataclass(frozen=True)
class StoredExample:
    """A row of the manifest whose clip lies in a shard and is read whenever it is asked for.

    It stands wherever an `avff_lib.data.examples.Example` does, and keeps nothing in memory.
    """

    row: Row
    shard: Path
    key: str
    sample_rate: int
    start: float
    duration: float

    @property
    def clip(self) -> Clip:
        """The crop of the speaker's face, with the audio.

        Raises:
            AVFFError: the shard is gone or damaged.
        """
        try:
            with safe_open(self.shard, framework="numpy") as file:
                streams = {name: file.get_tensor(f"{self.key}.{name}") for name in STREAMS}
        except (OSError, SafetensorError) as error:
            raise AVFFError(
                f"{self.shard} cannot be read ({error}); run avff prepare again, which repairs it"
            ) from None
        return Clip(**streams, sample_rate=self.sample_rate, start=self.start, duration=self.duration)


def write_shards(
    rows: Sequence[Row],
    out: Path,
    *,
    root: Path,
    image_size: int = 64,
    sample_rate: int = 16_000,
    workers: int | None = None,
) -> list[Skipped]:
    """Decode every clip once and keep the speaker's face and the audio.

    Can be interrupted and called again: a shard that is whole, and was made of the same files with
    the same settings, is kept; any other is written again.

    Args:
        rows: of a manifest, their files below ``root``.
        out: folder of the shards.
        root: folder of the dataset; paths are stored relative to it.
        image_size: side of the face crops in pixels; as the models to be fed want it.
        sample_rate: of the audio in Hz; likewise.
        workers: processes; by default one a core.

    Returns:
        The rows that could not be used; the shards list them as well.
    """
    out.mkdir(parents=True, exist_ok=True)
    root = root.resolve()  # as the paths of a manifest are
    spec = InputSpec(duration=MIN_DURATION, image_size=image_size, sample_rate=sample_rate)
    parts = [rows[first : first + SHARD_SIZE] for first in range(0, len(rows), SHARD_SIZE)]
    jobs = [(out / f"shard-{number:05d}.safetensors", part) for number, part in enumerate(parts)]
    known = _made_before(out)
    make = partial(_make_shard, spec=spec, root=root, known=known)
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    shards: list[dict[str, Any]] = []
    for shard in parallel_map(make, jobs, workers, description="writing shards", unit="shard"):
        shards.append(shard)
        # After each, and with those of an earlier run still to be looked at: an interruption loses none.
        later = [known[path.name] for path, _ in jobs[len(shards) :] if path.name in known]
        index: dict[str, Any] = {"format": FORMAT, "image_size": image_size, "sample_rate": sample_rate}
        index |= {"complete": len(shards) == len(jobs), "shards": shards + later}
        with atomic_write(out / INDEX_NAME) as path:
            path.write_text(json.dumps(index, indent=1) + "\n")
    by_name = {_name(row, root): row for row in rows}
    return [Skipped(by_name[name], reason) for shard in shards for name, reason in shard["skipped"]]


def read_shards(folder: Path, spec: InputSpec) -> list[StoredExample]:
    """The clips of a folder that `write_shards` wrote, in the order of the manifest.

    Only the index is read here. Clips that are shorter than ``spec.duration`` are left out.

    Raises:
        AVFFError: there is no index, it or a shard is not whole, or the clips have another image size
            or sample rate than the model wants.
    """
    index = _read_index(folder)
    if not index["complete"]:
        raise AVFFError(f"{folder} holds a part of its dataset only; run avff prepare again, which goes on")
    for name in ("image_size", "sample_rate"):
        if index[name] != getattr(spec, name):
            raise AVFFError(
                f"the clips of {folder} have {name} {index[name]}, the model wants {getattr(spec, name)}; "
                "run avff prepare for this model"
            )
    examples = []
    for shard in index["shards"]:
        path = folder / Path(shard["file"]).name  # no path of an index leads out of its folder
        if not path.exists() or path.stat().st_size != shard["bytes"]:
            raise AVFFError(f"{path} is missing or not whole; run avff prepare again, which repairs it")
        for clip in shard["clips"]:
            if clip["duration"] >= spec.duration:
                examples.append(
                    StoredExample(
                        row=_row(clip["row"]),
                        shard=path,
                        key=clip["key"],
                        sample_rate=index["sample_rate"],
                        start=clip["start"],
                        duration=clip["duration"],
                    )
                )
    return examples


def left_out(folder: Path, spec: InputSpec) -> list[tuple[str, str]]:
    """Path and reason of each clip, of any split, that `read_shards` does not give for ``spec``."""
    reasons = []
    for shard in _read_index(folder)["shards"]:
        reasons += [tuple(entry) for entry in shard["skipped"]]
        reasons += [
            (clip["row"]["path"], f"it lasts {clip['duration']:.2f} s; the model needs {spec.duration:g} s")
            for clip in shard["clips"]
            if clip["duration"] < spec.duration
        ]
    return reasons


def _make_shard(
    job: tuple[Path, Sequence[Row]], *, spec: InputSpec, root: Path, known: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Write one shard unless it is there already; returns its entry of the index."""
    path, rows = job
    plain = [{**asdict(row), "path": _name(row, root)} for row in rows]
    made_of = _fingerprint(rows, plain, spec)
    entry = known.get(path.name)
    if entry and entry["made_of"] == made_of and path.exists() and _sha256(path) == entry["sha256"]:
        return entry
    tensors: dict[str, np.ndarray] = {}
    clips, skipped = [], []
    for number, row in enumerate(rows):
        example = load_example(row, spec)
        if isinstance(example, Skipped):
            skipped.append([plain[number]["path"], example.reason])
            continue
        key, clip = f"{number:02d}", example.clip
        tensors |= {f"{key}.{name}": np.ascontiguousarray(getattr(clip, name)) for name in STREAMS}
        clips.append({"key": key, "start": clip.start, "duration": clip.duration, "row": plain[number]})
    with atomic_write(path) as partial_path:
        save_file(tensors, partial_path)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": _sha256(path),
        "made_of": made_of,
        "clips": clips,
        "skipped": skipped,
    }


def _fingerprint(rows: Sequence[Row], plain: list[dict[str, Any]], spec: InputSpec) -> str:
    """Of everything a shard depends on; a file counts by its size and time of change."""
    files = []
    for row, record in zip(rows, plain, strict=True):
        stat = row.path.stat() if row.path.exists() else None
        files.append([record, [stat.st_size, stat.st_mtime_ns] if stat else []])
    settings = [FORMAT, spec.image_size, spec.sample_rate, spec.duration]
    return hashlib.sha256(json.dumps([settings, files]).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(row: Row, root: Path) -> str:
    return row.path.relative_to(root).as_posix()


def _row(plain: dict[str, Any]) -> Row:
    # JSON knows neither paths nor tuples.
    restored = {
        "path": Path(plain["path"]),
        "targets": tuple(plain["targets"]),
        "fake_segments": tuple(tuple(segment) for segment in plain["fake_segments"]),
    }
    return Row(**{**plain, **restored})


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_text())
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']}, expected {FORMAT}")
        missing = {"complete", "image_size", "sample_rate", "shards"} - index.keys()
        if missing:
            raise ValueError(f"it lacks {min(missing)}")
    except OSError:
        raise AVFFError(f"{path} does not exist; make it with avff prepare DATA --out {folder}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise AVFFError(f"{path} is not an index of shards ({error}); run avff prepare again") from None
    return index


def _made_before(folder: Path) -> dict[str, dict[str, Any]]:
    """Entries of an earlier, perhaps interrupted run, by file name."""
    try:
        return {shard["file"]: shard for shard in _read_index(folder)["shards"]}
    except AVFFError:
        return {}

"""A dataset decoded once: faces and audio in shards that training and evaluation read without decoding.

A shard is made of up to `SHARD_SIZE` files of the dataset, and written as one safetensors file, or as several
where they are long. A safetensors header says where each tensor lies, so that one clip is read without the
others; ``index.json`` lists the shards and says what the clips are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from avff_lib.data.examples import EXAMPLE_SECONDS, Example, Skipped, iter_examples, speaker_clip
from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.faces.tracked import FaceCrops, TrackedClip
from avff_lib.media.clip import Clip
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.parallel import parallel_map

if TYPE_CHECKING:
    from avff_lib.preprocess.spec import InputSpec

INDEX_NAME = "index.json"
MIN_DURATION = 1.0  # seconds; no model has shorter windows
SHARD_SIZE = 64  # files; at 64 pixels and 3 s a shard takes 70 MB
SHARD_BYTES = 128 * 1024**2  # after which the rest of a shard's clips goes into another file
FORMAT = 2  # raise it when the same dataset gives other shards
STREAMS = ("times", "waveform", "cuts")  # arrays of a TrackedClip, and of each face in it
FACE_STREAMS = ("times", "frames", "boxes", "detected", "rolls", "mouth_motion")
PLAIN = ("sample_rate", "start", "duration", "last")


@dataclass(frozen=True)
class StoredExample:
    """A row of the manifest whose faces lie in a shard and are read whenever they are asked for.

    It stands wherever an `avff_lib.data.examples.Example` does, and keeps nothing in memory.

    Attributes:
        row: of the manifest.
        shard: file that holds it.
        key: of its tensors there.
        stored: what the index says of the `avff_lib.faces.tracked.TrackedClip`, beside its arrays.
        speaker: number of the face that speaks, None if there is none.
        start, duration: of `clip`, in seconds.
    """

    row: Row
    shard: Path
    key: str
    stored: dict[str, Any]
    speaker: int | None
    start: float
    duration: float

    @property
    def last(self) -> bool:
        """Whether the file ends with this example."""
        return bool(self.stored["last"])

    @property
    def clip(self) -> Clip:
        """The crop of the speaker's face, with the audio.

        Raises:
            AVFFError: the shard is gone or damaged.
        """
        return speaker_clip(self._read([] if self.speaker is None else [self.speaker]))

    @property
    def piece(self) -> TrackedClip:
        """All faces, with the audio.

        Raises:
            AVFFError: the shard is gone or damaged.
        """
        return self._read(self.stored["faces"])

    def _read(self, numbers: Sequence[int]) -> TrackedClip:
        try:
            with safe_open(self.shard, framework="numpy") as file:
                streams = {name: file.get_tensor(f"{self.key}.{name}") for name in STREAMS}
                faces = {
                    number: FaceCrops(
                        **{name: file.get_tensor(f"{self.key}.{number}.{name}") for name in FACE_STREAMS},
                        views=np.zeros(0, np.uint8),
                    )
                    for number in numbers
                }
        except (OSError, SafetensorError) as error:
            raise AVFFError(
                f"{self.shard} cannot be read ({error}); run avff prepare again, which repairs it"
            ) from None
        about = {name: self.stored[name] for name in PLAIN}
        return TrackedClip(**streams, **about, frame_size=tuple(self.stored["frame_size"]), faces=faces)


def write_shards(
    rows: Sequence[Row],
    out: Path,
    *,
    root: Path,
    image_size: int = 64,
    sample_rate: int = 16_000,
    workers: int | None = None,
) -> list[Skipped]:
    """Decode every file once and keep its faces and its audio; memory does not grow with their length.

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
    root = root.absolute()  # as the paths of a manifest are; links are not followed
    parts = [rows[first : first + SHARD_SIZE] for first in range(0, len(rows), SHARD_SIZE)]
    jobs = [(out / f"shard-{number:05d}.safetensors", part) for number, part in enumerate(parts)]
    known = _made_before(out)
    make = partial(_make_shard, size=image_size, sample_rate=sample_rate, root=root, known=known)
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

    Only the index is read here. Files that are shorter than ``spec.duration`` are left out.

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
        for part in shard["parts"]:
            path = _part_path(folder, part)
            if not path.exists() or path.stat().st_size != part["bytes"]:
                raise AVFFError(f"{path} is missing or not whole; run avff prepare again, which repairs it")
        for clip in shard["clips"]:
            if clip["seconds"] >= spec.duration:
                examples.append(
                    StoredExample(
                        row=_row(clip["row"]),
                        shard=_part_path(folder, shard["parts"][clip["part"]]),
                        key=clip["key"],
                        stored=clip["stored"],
                        speaker=clip["speaker"],
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
            (clip["row"]["path"], f"it lasts {clip['seconds']:.2f} s; the model needs {spec.duration:g} s")
            for clip in shard["clips"]
            if clip["seconds"] < spec.duration
        ]
    return reasons


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of shards in a folder, as `write_shards` left them.

    Raises:
        AVFFError: there is no index, or it holds something else.
    """
    return {
        part["file"]: part["sha256"] for shard in _read_index(folder)["shards"] for part in shard["parts"]
    }


def _make_shard(
    job: tuple[Path, Sequence[Row]],
    *,
    size: int,
    sample_rate: int,
    root: Path,
    known: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Write one shard unless it is there already; returns its entry of the index."""
    path, rows = job
    plain = [{**asdict(row), "path": _name(row, root)} for row in rows]
    made_of = _fingerprint(rows, plain, size, sample_rate)
    entry = known.get(path.name)
    if entry and entry["made_of"] == made_of and all(_is_whole(path.parent, part) for part in entry["parts"]):
        return entry
    parts = _PartWriter(path)
    clips: list[dict[str, Any]] = []
    skipped = []
    for number, row in enumerate(rows):
        try:
            examples = iter_examples(row, size=size, sample_rate=sample_rate, min_duration=MIN_DURATION)
            entries = [
                {**parts.add(f"{number:02d}.{index}", example), "row": plain[number]}
                for index, example in enumerate(examples)
            ]
        except AVFFError as error:
            skipped.append([plain[number]["path"], str(error)])
            continue
        seconds = sum(entry["stored"]["duration"] for entry in entries)
        clips += [{**entry, "seconds": seconds} for entry in entries]
    parts.flush()
    return {
        "file": path.name,
        "made_of": made_of,
        "parts": parts.written,
        "clips": clips,
        "skipped": skipped,
    }


class _PartWriter:
    """Writes the tensors of a shard into as many files as `SHARD_BYTES` makes of it.

    Attributes:
        written: name, size and checksum of each file.
    """

    def __init__(self, path: Path) -> None:
        self.written: list[dict[str, Any]] = []
        self._path = path
        self._tensors: dict[str, np.ndarray] = {}

    def add(self, key: str, example: Example) -> dict[str, Any]:
        """Store an example; returns its entry of the index."""
        piece = example.piece
        self._tensors |= {f"{key}.{name}": np.ascontiguousarray(getattr(piece, name)) for name in STREAMS}
        for number, face in piece.faces.items():
            arrays = {name: np.ascontiguousarray(getattr(face, name)) for name in FACE_STREAMS}
            self._tensors |= {f"{key}.{number}.{name}": array for name, array in arrays.items()}
        entry = {
            "part": len(self.written),
            "key": key,
            "stored": {name: getattr(piece, name) for name in (*PLAIN, "frame_size")}
            | {"faces": list(piece.faces)},
            "speaker": piece.speaker(),
            "start": example.start,
            "duration": example.duration,
        }
        if sum(array.nbytes for array in self._tensors.values()) > SHARD_BYTES:
            self.flush()
        return entry

    def flush(self) -> None:
        """Write what was added since the last file; the first file is there even if nothing was."""
        if self.written and not self._tensors:
            return
        number = f"-{len(self.written)}" if self.written else ""
        path = self._path.with_stem(self._path.stem + number)
        with atomic_write(path) as partial_path:
            save_file(self._tensors, partial_path)
        self._tensors = {}
        self.written.append({"file": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)})


def _part_path(folder: Path, part: dict[str, Any]) -> Path:
    return folder / Path(part["file"]).name  # no path of an index leads out of its folder


def _is_whole(folder: Path, part: dict[str, Any]) -> bool:
    path = _part_path(folder, part)
    return path.exists() and _sha256(path) == part["sha256"]


def _fingerprint(rows: Sequence[Row], plain: list[dict[str, Any]], size: int, sample_rate: int) -> str:
    """Of everything a shard depends on; a file counts by its size and time of change."""
    files = []
    for row, record in zip(rows, plain, strict=True):
        stat = row.path.stat() if row.path.exists() else None
        files.append([record, [stat.st_size, stat.st_mtime_ns] if stat else []])
    settings = [FORMAT, size, sample_rate, MIN_DURATION, EXAMPLE_SECONDS]
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

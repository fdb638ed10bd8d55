"""A dataset decoded once: shards of faces and audio, from which training reads windows without any video.

A shard is a plain tar in WebDataset's naming: files whose names agree up to the first dot are one sample. One
machine, or many on one file system, can read it at random: the index gives the offset of each member, so a
window costs only the bytes of its own seconds. Other programs can stream it with ``webdataset`` or any tar
reader. The members of a sample, in their order:

=====================  ==================================================================================
``KEY.json``           row of the manifest; position in the file, cuts, number of the speaking face
``KEY.times.npy``      ``(T,)`` float64, times of the frames in seconds
``KEY.faces.npy``      ``(N,)`` of `CROP`, one per crop: its face, time, position, and end of its picture
``KEY.wav``            24-bit PCM, mono
``KEY.faces.mjpeg``    the N pictures, one after the other; ``.mpng`` if they are PNG
=====================  ==================================================================================

Each shard has its own part of the index beside it, so preparing a million clips never rewrites one long list.

Why these codecs: size of a crop and time to decode it on one core, for people of GRID; and the effect on the
scores of 300 drawn clips at 64 pixels (AUC, mean change), for `avff-tiny` and `avffmae-tiny`:

======================  ================  ================  ==============  ==============
crops                   64 pixels         224 pixels        AUC             mean change
======================  ================  ================  ==============  ==============
raw                     12.3 kB           150.5 kB          0.974, 0.975
PNG                     7.9 kB, 0.16 ms   64.9 kB, 1.3 ms   the same        none
JPEG 95, 4:4:4          3.5 kB, 0.05 ms   18.2 kB, 0.3 ms   0.974, 0.975    0.006, 0.010
JPEG 90, 4:4:4          2.7 kB, 0.05 ms   12.6 kB, 0.3 ms   0.974, 0.975    0.008, 0.013
JPEG 95, 4:2:0          2.8 kB, 0.05 ms   13.5 kB, 0.2 ms   0.974, 0.973    0.016, 0.016
lossless WebP           5.9 kB, 0.11 ms   38.0 kB, 0.9 ms   the same        none
H.264, 4:4:4, crf 12    0.3 kB, 0.5 ms    2.4 kB, 1.2 ms    not measured
======================  ================  ================  ==============  ==============

PNG gives the same scores as the videos, and is cheap at 64 pixels; at 224 pixels, JPEG takes a quarter of its
bytes and time. WebP takes over ten times as long to write as PNG. H.264 is small because frames build on each
other: a window of 16 out of 80 frames would require decoding all 80 and some before them, at 20 times the
cost of JPEG. With PCM, the offset of a sample is a simple product. With 16 bits instead of 24, scores change
by up to 7e-4, and a shard of 224 pixels is 3 % smaller.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import wave
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import cv2
import numpy as np

from avff_lib.data.examples import EXAMPLE_SECONDS, Example, Skipped, cut, iter_examples, speaker_clip
from avff_lib.data.manifest import Row
from avff_lib.errors import AVFFError
from avff_lib.faces.tracked import FaceCrops, Region, TrackedClip
from avff_lib.media.clip import Clip
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.files import file_identity
from avff_lib.utils.parallel import Engine, parallel_map

if TYPE_CHECKING:
    from avff_lib.preprocess.spec import InputSpec

INDEX_NAME = "index.json"
MIN_DURATION = 1.0  # seconds; no model has shorter windows
SHARD_SIZE = 64  # files; at 64 pixels and 3 s a shard takes 45 MB
SHARD_BYTES = 128 * 1024**2  # after which the rest of a shard's clips goes into another file
FORMAT = 4  # raise it when the same dataset gives different shards
LOSSLESS_SIZE = 96  # pixels, up to which crops are stored as PNG by default

JPEG_QUALITY = 95

Codec = Literal["jpeg", "png"]
ENCODINGS: dict[Codec, tuple[str, list[int]]] = {
    "jpeg": (
        ".jpg",
        # The usual colours at half the resolution would cost 3 dB at 224 pixels and 6 at 64.
        [
            *(cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ],
    ),
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),  # 6 saves another tenth, in three times the time
}
CROP = np.dtype(
    [
        ("face", "<i4"),
        ("time", "<f8"),
        ("end", "<u8"),  # of its picture, in bytes from the first picture's beginning
        ("box", "<f4", (4,)),
        ("detected", "?"),
        ("roll", "<f4"),
        ("mouth_motion", "<f4"),
    ]
)
STREAMS: dict[Codec, str] = {"jpeg": "mjpeg", "png": "mpng"}
PLAIN = ("sample_rate", "start", "duration", "last", "frame_size")
WAV_HEADER = 44  # bytes, as `wave` writes it
SAMPLE_BYTES = 3  # of PCM, whose steps of 2^-23 are those of float32 near full scale


@dataclass(frozen=True, eq=False, slots=True)
class StoredExample:
    """A row of the manifest whose faces are in a shard and are read on demand.

    It can replace any `avff_lib.data.examples.Example`, and keeps nothing in memory.

    Attributes:
        row: its row of the manifest.
        shard: file that holds it.
        key: of its members there.
        members: ``(5, 2)`` int64, first byte and size of each, in their order in the file.
        start, duration: of `clip`, in seconds.
        last: whether the file ends with this example.
    """

    row: Row
    shard: Path
    key: str
    members: np.ndarray
    start: float
    duration: float
    last: bool

    @property
    def clip(self) -> Clip:
        """The crop of the speaker's face, with the audio.

        Raises:
            AVFFError: the shard is gone or damaged.
        """
        with self._reader() as reader:
            return reader.read(reader.speaker())

    def window(self, start: float, duration: float, frame_times: np.ndarray | None = None) -> Clip:
        """Part of `clip`, without reading the rest; see `avff_lib.data.examples.Example.window`.

        Raises:
            AVFFError: the shard is gone or damaged, or the window reaches outside the clip.
        """
        with self._reader() as reader:
            return reader.read(cut(reader.speaker(), start, duration, frame_times))

    @property
    def piece(self) -> TrackedClip:
        """All faces, with the audio.

        Raises:
            AVFFError: the shard is gone or damaged.
        """
        with self._reader() as reader:
            outline = reader.outline()
            faces = {
                number: replace(face, frames=reader.pictures(face.frames))
                for number, face in outline.faces.items()
            }
            return replace(outline, faces=faces, waveform=reader.sound(outline.waveform))

    @contextmanager
    def _reader(self) -> Iterator[_Reader]:
        try:
            with self.shard.open("rb", buffering=0) as file:
                yield _Reader(file, self.members.tolist())
        except (OSError, ValueError, KeyError, TypeError, IndexError, cv2.error) as error:
            reason = " ".join(str(error).split())  # OpenCV's messages take several lines
            raise AVFFError(
                f"{self.shard} cannot be read ({reason}); run avff prepare again, which repairs it"
            ) from None


class _Reader:
    """Reads one example of an open shard: first an outline, and then only the parts that are needed.

    In an outline, the rows of crops and the samples are replaced by their numbers. So it can be cut like any
    clip, before any picture or sound is read.
    """

    def __init__(self, file: BinaryIO, members: Sequence[Sequence[int]]) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        *head, (sound, self._sound_size), (self._pictures, _) = members
        first, end = head[0][0], sum(head[-1])
        block = self._bytes(first, end - first)  # adjacent, so one read is enough
        about, times, crops = (block[begin - first : begin - first + size] for begin, size in head)
        self._about: dict[str, Any] = json.loads(about)
        self._times, self._crops = _array(times, np.dtype("<f8")), _array(crops, CROP)
        self._sound = sound + WAV_HEADER

    def outline(self) -> TrackedClip:
        """All faces."""
        return self._outline(np.unique(self._crops["face"]).tolist())

    def speaker(self) -> Clip:
        """The speaking face."""
        number = self._about["speaker"]
        return speaker_clip(self._outline([] if number is None else [number]))

    def _outline(self, numbers: Sequence[int]) -> TrackedClip:
        about = {name: self._about[name] for name in PLAIN}
        return TrackedClip(
            **about | {"frame_size": tuple(about["frame_size"])},
            times=self._times,
            waveform=np.arange((self._sound_size - WAV_HEADER) // SAMPLE_BYTES, dtype=np.int32),
            cuts=np.array(self._about["cuts"], dtype=np.float64),
            faces={number: self._face(number) for number in numbers},
        )

    def _face(self, number: int) -> FaceCrops:
        rows = np.flatnonzero(self._crops["face"] == number)
        # Contiguous copies: over strided data, sums are rounded in another order.
        times, boxes, detected, rolls, motion = (
            np.ascontiguousarray(self._crops[name][rows])
            for name in ("time", "box", "detected", "roll", "mouth_motion")
        )
        return FaceCrops(times, rows, boxes, detected, rolls, motion, views=np.zeros(0, np.uint8))

    def read(self, outline: Clip) -> Clip:
        """The pictures and the sound of an outline."""
        frames, waveform = self.pictures(outline.frames), self.sound(outline.waveform)
        return replace(outline, frames=frames, waveform=waveform)

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """``(N, S, S, 3)`` uint8, for ascending and possibly repeated rows of one face."""
        if not len(rows):
            return rows
        ends = self._crops["end"].astype(np.int64)
        begins = np.concatenate([[0], ends[:-1]])
        first = begins[rows[0]]
        block = np.frombuffer(self._bytes(self._pictures + first, ends[rows[-1]] - first), np.uint8)
        distinct, places = np.unique(rows, return_inverse=True)
        pictures = [_picture(block[begins[row] - first : ends[row] - first]) for row in distinct]
        return np.stack(pictures)[places]

    def sound(self, samples: np.ndarray) -> np.ndarray:
        """``(S,)`` float32, for consecutive samples."""
        if not len(samples):
            return np.zeros(0, np.float32)
        pcm = self._bytes(self._sound + SAMPLE_BYTES * samples[0], SAMPLE_BYTES * len(samples))
        wide = np.zeros((len(samples), 4), np.uint8)  # the lowest byte stays 0
        wide[:, 1:] = np.frombuffer(pcm, np.uint8).reshape(-1, SAMPLE_BYTES)
        return wide.view("<i4")[:, 0].astype(np.float32) / 2**31

    def _bytes(self, first: int, size: int) -> bytes:
        if not 0 <= first <= first + size <= self._size:
            raise ValueError(f"bytes {first} to {first + size} of {self._size} are asked for")
        self._file.seek(first)
        return self._file.read(size)


def write_shards(
    rows: Sequence[Row],
    out: Path,
    *,
    root: Path,
    image_size: int = 64,
    region: Region = "face",
    sample_rate: int = 16_000,
    codec: Codec | None = None,
    workers: int | None = None,
    engine: Engine = "local",
) -> list[Skipped]:
    """Decode every file once and store its faces and audio; memory does not grow with their length.

    Can be interrupted and called again: a complete shard of the same files with the same settings is kept;
    any other is written again.

    Args:
        rows: those of a manifest, with files below ``root``.
        out: folder of the shards.
        root: folder of the dataset; paths are stored relative to it.
        image_size: side of the face crops in pixels, as the model expects it.
        region: of the face, as the model expects it.
        sample_rate: of the audio in Hz, as the model expects it.
        codec: of the face crops: PNG is lossless, JPEG takes a quarter to a half of its bytes. By default PNG
            up to `LOSSLESS_SIZE` pixels, and JPEG above.
        workers: number of processes; by default one per core.
        engine: what runs them, see `avff_lib.utils.parallel.parallel_map`.

    Returns:
        The rows that could not be used; the shards also list them.
    """
    out.mkdir(parents=True, exist_ok=True)
    root = root.absolute()  # as the paths of a manifest are; links are not followed
    codec = codec or ("png" if image_size <= LOSSLESS_SIZE else "jpeg")
    parts = [rows[first : first + SHARD_SIZE] for first in range(0, len(rows), SHARD_SIZE)]
    jobs = [(out / f"shard-{number:05d}.tar", part) for number, part in enumerate(parts)]
    index = {
        "image_size": image_size,
        "region": region,
        "sample_rate": sample_rate,
        "codec": codec,
        "shards": [_entry_path(path).name for path, _ in jobs],
    }
    _write_json(out / INDEX_NAME, {**index, "complete": False})
    make = partial(
        _make_shard, size=image_size, region=region, sample_rate=sample_rate, codec=codec, root=root
    )
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    by_name = {_name(row, root): row for row in rows}
    skipped = []
    for entries in parallel_map(
        make, jobs, workers, description="writing shards", unit="shard", engine=engine
    ):
        skipped += [Skipped(by_name[name], reason) for name, reason in entries]
    _write_json(out / INDEX_NAME, {**index, "complete": True})
    return skipped


def read_shards(folder: Path, spec: InputSpec) -> list[StoredExample]:
    """The clips of a folder that `write_shards` wrote, in the order of the manifest.

    Only the index is read here. Files that are shorter than ``spec.duration`` are left out.

    Raises:
        AVFFError: there is no index, the index or a shard is incomplete, or the clips have another image
            size, region or sample rate than the model expects.
    """
    index = _read_index(folder)
    if not index["complete"]:
        raise AVFFError(f"{folder} holds a part of its dataset only; run avff prepare again to continue")
    for name in ("image_size", "region", "sample_rate"):
        if index[name] != getattr(spec, name):
            raise AVFFError(
                f"the clips of {folder} have {name} {index[name]}, the model wants {getattr(spec, name)}; "
                "run avff prepare for this model"
            )
    examples = []
    for entry in _read_entries(folder, index):
        paths = [_part_path(folder, part) for part in entry["parts"]]
        for path, part in zip(paths, entry["parts"], strict=True):
            if not path.exists() or path.stat().st_size != part["bytes"]:
                raise AVFFError(f"{path} is missing or not whole; run avff prepare again, which repairs it")
        examples += [
            _stored(clip, paths[clip["part"]], _row(clip["row"]))
            for clip in entry["clips"]
            if clip["seconds"] >= spec.duration
        ]
    return examples


def left_out(folder: Path, spec: InputSpec) -> list[tuple[str, str]]:
    """Path and reason of each clip, of any split, that `read_shards` leaves out for ``spec``."""
    reasons = []
    for entry in _read_entries(folder, _read_index(folder)):
        reasons += [tuple(skipped) for skipped in entry["skipped"]]
        reasons += [
            (clip["row"]["path"], f"it lasts {clip['seconds']:.2f} s; the model needs {spec.duration:g} s")
            for clip in entry["clips"]
            if clip["seconds"] < spec.duration
        ]
    return reasons


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each shard file in a folder, as `write_shards` left them.

    Raises:
        AVFFError: there is no index, or it holds something else.
    """
    entries = _read_entries(folder, _read_index(folder))
    return {part["file"]: part["sha256"] for entry in entries for part in entry["parts"]}


def _make_shard(
    job: tuple[Path, Sequence[Row]],
    *,
    size: int,
    region: Region,
    sample_rate: int,
    codec: Codec,
    root: Path,
) -> list[list[str]]:
    """Write one shard unless it already exists; return path and reason of each row that was skipped."""
    path, rows = job
    plain = [{**asdict(row), "path": _name(row, root)} for row in rows]
    made_of = _fingerprint(rows, plain, size, region, sample_rate, codec)
    with suppress(AVFFError):
        made = _read_json(_entry_path(path), {"made_of", "parts", "skipped"})
        if made["made_of"] == made_of and all(_is_whole(path.parent, part) for part in made["parts"]):
            return made["skipped"]
    parts = _PartWriter(path, codec)
    clips: list[dict[str, Any]] = []
    skipped = []
    for number, row in enumerate(rows):
        entries: list[dict[str, Any]] = []
        try:
            examples = iter_examples(
                row, size=size, region=region, sample_rate=sample_rate, min_duration=MIN_DURATION
            )
            for index, example in enumerate(examples):
                entries.append(parts.add(f"{path.stem}-{number:02d}-{index}", example, plain[number]))
        except AVFFError as error:
            parts.drop(entries)
            skipped.append([plain[number]["path"], str(error)])
            continue
        seconds = sum(entry["seconds"] for entry in entries)
        for entry in entries:
            entry["seconds"] = seconds  # of the file
        clips += entries
    parts.flush()
    entry = {"made_of": made_of, "parts": parts.written, "clips": clips, "skipped": skipped}
    _write_json(_entry_path(path), entry)
    return skipped


class _PartWriter:
    """Writes the samples of a shard into as many files as `SHARD_BYTES` requires.

    Attributes:
        written: name, size and checksum of each file.
    """

    def __init__(self, path: Path, codec: Codec) -> None:
        self.written: list[dict[str, Any]] = []
        self._path, self._codec = path, codec
        self._waiting: list[tuple[dict[str, Any], dict[str, bytes]]] = []  # entries and their members

    def add(self, key: str, example: Example, row: dict[str, Any]) -> dict[str, Any]:
        """Store an example; return its entry of the index, which the next `flush` completes.

        Raises:
            AVFFError: its audio holds non-finite samples.
        """
        piece = example.piece
        if not np.isfinite(piece.waveform).all():
            raise AVFFError("its audio holds non-finite samples")
        crops, pictures = _encode_faces(piece, self._codec)
        about = {
            "row": row,
            "speaker": piece.speaker(),
            "cuts": piece.cuts.tolist(),
            **{name: getattr(piece, name) for name in PLAIN},
        }
        members = {
            "json": json.dumps(about).encode(),
            "times.npy": _npy(piece.times),
            "faces.npy": _npy(crops),
            "wav": _wav(piece.waveform, piece.sample_rate),
            f"faces.{STREAMS[self._codec]}": pictures,
        }
        entry = {
            "part": len(self.written),
            "key": key,
            "start": example.start,
            "duration": example.duration,
            "last": piece.last,
            "seconds": piece.duration,
            "row": row,
        }
        self._waiting.append((entry, members))
        if sum(len(data) for _, waiting in self._waiting for data in waiting.values()) > SHARD_BYTES:
            self.flush()
        return entry

    def drop(self, entries: Collection[dict[str, Any]]) -> None:
        """Discard added entries that are not written yet; no clip of the index points to those that are."""
        self._waiting = [(entry, members) for entry, members in self._waiting if entry not in entries]

    def flush(self) -> None:
        """Write what was added since the last file; the first file is written even if it is empty."""
        if self.written and not self._waiting:
            return
        number = f"-{len(self.written)}" if self.written else ""
        path = self._path.with_stem(self._path.stem + number)
        with atomic_write(path) as partial_path:
            with tarfile.open(partial_path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for entry, members in self._waiting:
                    for name, data in members.items():
                        info = tarfile.TarInfo(f"{entry['key']}.{name}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
            with tarfile.open(partial_path) as tar:
                places = {info.name: (info.offset_data, info.size) for info in tar}
        for entry, members in self._waiting:
            entry["members"] = [places[f"{entry['key']}.{name}"] for name in members]
        self._waiting = []
        self.written.append({"file": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)})


def _encode_faces(piece: TrackedClip, codec: Codec) -> tuple[np.ndarray, bytes]:
    """All crops of a piece, face by face: ``(N,)`` of `CROP`, and their pictures."""
    suffix, settings = ENCODINGS[codec]
    crops, pictures = np.zeros(sum(len(face.times) for face in piece.faces.values()), CROP), []
    first = 0
    for number, face in piece.faces.items():
        rows = crops[first : first + len(face.times)]
        rows["face"], rows["time"], rows["box"] = number, face.times, face.boxes
        rows["detected"], rows["roll"], rows["mouth_motion"] = face.detected, face.rolls, face.mouth_motion
        for frame in face.frames:
            _, picture = cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), settings)
            pictures.append(picture.tobytes())
        first += len(rows)
    crops["end"] = np.cumsum([len(picture) for picture in pictures])
    return crops, b"".join(pictures)


def _picture(data: np.ndarray) -> np.ndarray:
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError("a picture in it is damaged")
    return picture


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def _array(data: bytes, dtype: np.dtype) -> np.ndarray:
    """The one-dimensional array that `_npy` encoded; its header is skipped, not evaluated."""
    if data[:6] != b"\x93NUMPY":
        raise ValueError("an array in it is damaged")
    return np.frombuffer(data, dtype, offset=10 + int.from_bytes(data[8:10], "little"))


def _wav(waveform: np.ndarray, sample_rate: int) -> bytes:
    wide = np.clip(np.rint(waveform * 2**23), -(2**23), 2**23 - 1).astype("<i4")
    pcm = wide.view(np.uint8).reshape(-1, 4)[:, :SAMPLE_BYTES]
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(SAMPLE_BYTES)
        sound.setframerate(sample_rate)
        sound.writeframes(pcm.tobytes())
    return file.getvalue()


def _stored(clip: dict[str, Any], shard: Path, row: Row) -> StoredExample:
    return StoredExample(
        row=row,
        shard=shard,
        key=clip["key"],
        members=np.array(clip["members"]),
        start=clip["start"],
        duration=clip["duration"],
        last=clip["last"],
    )


def _entry_path(shard: Path) -> Path:
    return shard.with_suffix(".json")


def _part_path(folder: Path, part: dict[str, Any]) -> Path:
    return folder / Path(part["file"]).name  # no path of an index leads out of its folder


def _is_whole(folder: Path, part: dict[str, Any]) -> bool:
    path = _part_path(folder, part)
    return path.exists() and _sha256(path) == part["sha256"]


def _fingerprint(
    rows: Sequence[Row],
    plain: list[dict[str, Any]],
    size: int,
    region: Region,
    sample_rate: int,
    codec: Codec,
) -> str:
    """Hash of everything a shard depends on; for a file, its size and modification time."""
    files = [
        [record, file_identity(row.path)[1:]]  # its path is in the record, relative to the dataset
        for row, record in zip(rows, plain, strict=True)
    ]
    settings = [FORMAT, size, region, sample_rate, ENCODINGS[codec], MIN_DURATION, EXAMPLE_SECONDS]
    return hashlib.sha256(json.dumps([settings, files]).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(row: Row, root: Path) -> str:
    return row.path.relative_to(root).as_posix()


def _row(plain: dict[str, Any]) -> Row:
    # JSON has neither paths nor tuples, and creates a separate string for each clip of a person.
    restored = {
        "path": Path(plain["path"]),
        "targets": tuple(map(sys.intern, plain["targets"])),
        "fake_segments": tuple(tuple(segment) for segment in plain["fake_segments"]),
        **{name: sys.intern(plain[name]) for name in ("category", "method", "source", "split", "group")},
    }
    return Row(**{**plain, **restored})


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_NAME
    if not path.exists():
        raise AVFFError(f"{path} does not exist; make it with avff prepare DATA --out {folder}")
    return _read_json(path, {"complete", "image_size", "region", "sample_rate", "shards"})


def _read_entries(folder: Path, index: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The index entry of each shard."""
    for name in index["shards"]:
        yield _read_json(folder / Path(name).name, {"parts", "clips", "skipped"})


def _read_json(path: Path, keys: set[str]) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']}, expected {FORMAT}")
        if missing := keys - found.keys():
            raise ValueError(f"it lacks {min(missing)}")
    except OSError as error:
        raise AVFFError(f"{path} cannot be read ({error.strerror}); run avff prepare again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise AVFFError(f"{path} is not an index of shards ({error}); run avff prepare again") from None
    return found


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as partial_path:
        partial_path.write_text(json.dumps({"format": FORMAT, **content}) + "\n")

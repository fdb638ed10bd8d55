"""Predictions for more files than one looks at: a folder of Parquet files that reads as one table.

Each part holds the predictions of `PART_SIZE` files and is written by the worker that made them. A run that
was interrupted, or is given more files, scores what no part holds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from avff_lib.inference.prediction import FilePrediction
from avff_lib.inference.predictor import analyze_file, failed_analysis
from avff_lib.models import Detector
from avff_lib.models.checkpoint import weights_digest
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.cluster import Engine
from avff_lib.utils.extras import require_extra
from avff_lib.utils.folder import claim_folder
from avff_lib.utils.parallel import parallel_map

PART_SIZE = 64  # files; what a worker that dies has to do again
OOD_STREAMS = ("audio", "visual", "joint")
SETTINGS_NAME = "_predictions.json"  # readers of Parquet pass over names with such a beginning
MAX_DEATHS = 3  # of processes that were scoring a file, after which it is left alone


def predict_to_parquet(
    paths: Sequence[Path],
    out: Path,
    checkpoint: str,
    *,
    workers: int,
    engine: Engine = "local",
    device: str = "cpu",
    batch_size: int = 16,
    audio_stream: int | None = None,
) -> Counter[str]:
    """Score files, and keep what is predicted as Parquet: a row a file, with lists of segments and gaps.

    A file counts by its path, size and time of change: one that has changed is scored again, in a row of its
    own. A file that takes three processes down with it gets a row with an error.

    Args:
        paths: of the files.
        out: folder, created if it does not exist; ``pandas.read_parquet(out)`` reads it.
        checkpoint: folder of a detector, or the name of a shipped one.
        workers: processes on this machine.
        engine: what runs them; the nodes of a cluster must see ``paths``, ``out`` and ``checkpoint``.
        device, batch_size, audio_stream: see `avff_lib.inference.predictor.analyze_file`.

    Returns:
        How many of ``paths`` have each label, and how many have an ``"error"``.

    Raises:
        AVFFError: ``out`` holds something else, or predictions of another detector.
    """
    require_extra("avff predict --parquet", "pyarrow")
    model = _detector(checkpoint, device)
    settings = {
        "detector": weights_digest(model),
        "threshold": model.config.threshold,
        "trained_on": model.config.trained_on,
        "audio_stream": audio_stream,
    }
    claim_folder(out, SETTINGS_NAME, settings, "set of predictions")
    wanted = {_identity(path): path for path in paths}
    done = _stored(out)
    missing = [path for identity, path in wanted.items() if identity not in done]
    parts = [missing[first : first + PART_SIZE] for first in range(0, len(missing), PART_SIZE)]
    write = partial(
        _write_part,
        out=out,
        checkpoint=checkpoint,
        device=device,
        batch_size=batch_size,
        audio_stream=audio_stream,
    )
    for labels in parallel_map(write, parts, workers, description="scoring", unit="part", engine=engine):
        done |= labels
    return Counter(done[identity] for identity in wanted)


Identity = tuple[str, int, int]  # of a file: path, size in bytes, time of change in nanoseconds


def _identity(path: Path) -> Identity:
    try:
        stat = path.stat()
    except OSError:
        return str(path), -1, -1
    return str(path), stat.st_size, stat.st_mtime_ns


def _stored(out: Path) -> dict[Identity, str]:
    """Label, or ``"error"``, of each file that a part holds."""
    import pyarrow.parquet as pq

    stored: dict[Identity, str] = {}
    for part in sorted(out.glob("part-*.parquet")):
        table = pq.read_table(part, columns=["path", "bytes", "changed", "label"])
        for row in table.to_pylist():
            stored[row["path"], row["bytes"], row["changed"]] = row["label"] or "error"
    return stored


@cache  # each worker loads it once
def _detector(checkpoint: str, device: str) -> Detector:
    return Detector.from_pretrained(checkpoint, device=device)


def _write_part(
    paths: Sequence[Path],
    *,
    out: Path,
    checkpoint: str,
    device: str,
    batch_size: int,
    audio_stream: int | None,
) -> dict[Identity, str]:
    """Score some files and write their part; returns their labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    model = _detector(checkpoint, device)
    identities = [_identity(path) for path in paths]
    name = f"part-{hashlib.sha256(repr(identities).encode()).hexdigest()[:16]}"
    diary = _Diary(out / f".{name}.diary")
    rows = []
    for path, identity in zip(paths, identities, strict=True):
        if diary.deaths(path) >= MAX_DEATHS:
            reason = f"{path} cannot be scored: {MAX_DEATHS} processes ended while they were at it"
            prediction = failed_analysis(path, model, reason).prediction
        else:
            diary.note("begun", path)
            prediction = analyze_file(
                path, model, batch_size=batch_size, audio_stream=audio_stream, views=False
            ).prediction
            diary.note("done", path)
        rows.append(_row(prediction, identity))
    with atomic_write(out / f"{name}.parquet") as partial_path:
        pq.write_table(pa.Table.from_pylist(rows, _schema()), partial_path)
    diary.close()
    return {identity: row["label"] or "error" for identity, row in zip(identities, rows, strict=True)}


class _Diary:
    """What processes that work on a part have begun and done, also those that died of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._count = Counter(lines)

    def deaths(self, path: Path) -> int:
        """How many earlier processes began a file and did not come to its end."""
        return self._count[f"begun {path}"] - self._count[f"done {path}"]

    def note(self, what: str, path: Path) -> None:
        with self._path.open("a") as file:
            file.write(f"{what} {path}\n")

    def close(self) -> None:
        """Forget it: the part is written."""
        self._path.unlink(missing_ok=True)


def _row(file: FilePrediction, identity: Identity) -> dict[str, Any]:
    path, size, changed = identity
    return {
        "path": path,
        "bytes": size,
        "changed": changed,
        "label": file.label,
        "reasons": list(file.reasons),
        "score": file.score,
        "prediction": file.prediction,
        "threshold": file.threshold,
        "face": file.face,
        "faces": len(file.faces),
        "windows": len(file.windows),
        "coverage": file.coverage,
        **{f"ood_{stream}": file.ood_scores.get(stream) for stream in OOD_STREAMS},
        "segments": [asdict(part) for part in file.segments],
        "gaps": [asdict(gap) for gap in file.gaps],
        "warnings": list(file.warnings),
        "family": file.model["family"],
        "trained_on": file.model["trained_on"],
        "error": file.error,
    }


def _schema() -> Any:
    import pyarrow as pa

    text, texts, number, count = pa.string(), pa.list_(pa.string()), pa.float64(), pa.int64()
    span = {"start": number, "end": number}
    segments = pa.list_(pa.struct({**span, "face": count, "score": number}))
    return pa.schema(
        {
            **{"path": text, "bytes": count, "changed": count, "label": text, "reasons": texts},
            **{"score": number, "prediction": number, "threshold": number},
            **{"face": count, "faces": count, "windows": count, "coverage": number},
            **{f"ood_{stream}": number for stream in OOD_STREAMS},
            **{"segments": segments, "gaps": pa.list_(pa.struct({**span, "obstacle": text}))},
            **{"warnings": texts, "family": text, "trained_on": text, "error": text},
        }
    )

"""Predictions for more files than one looks at: a folder of Parquet files that reads as one table.

Each part holds the predictions of up to `PART_SIZE` files and is written by the worker that made them. A run
that was interrupted, or is given more files, scores only the files that no part holds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from avff_lib import __version__
from avff_lib.errors import AVFFError
from avff_lib.inference.prediction import FilePrediction
from avff_lib.inference.predictor import analyze_file, failed_analysis
from avff_lib.models import Detector
from avff_lib.models.checkpoint import calibration_digest, weights_digest
from avff_lib.utils.atomic import atomic_write, locked
from avff_lib.utils.cluster import Engine
from avff_lib.utils.extras import require_extra
from avff_lib.utils.files import file_identity
from avff_lib.utils.folder import claim_folder
from avff_lib.utils.parallel import parallel_map

PART_SIZE = 64  # files; what a worker that dies has to do again
PARTS_PER_WORKER = 4  # at least, so that workers end at about the same time
OOD_STREAMS = ("audio", "visual", "joint")
SETTINGS_NAME = "_predictions.json"  # readers of Parquet skip names that start with an underscore
MAX_DEATHS = 3  # of processes that were scoring a file, after which it is skipped

Identity = tuple[str, int, int]  # of a file, see `avff_lib.utils.files.file_identity`


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
    """Score files, and store the predictions as Parquet: one row per file, with lists of segments and gaps.

    A file is identified by its path, size and modification time: one that has changed is scored again, in a
    row of its own. A file that crashes three processes gets a row with an error. The metadata of every part
    name the detector, its calibration, and the version of the library.

    Args:
        paths: the files.
        out: folder, created if it does not exist; ``pandas.read_parquet(out)`` reads it.
        checkpoint: folder of a detector, or the name of a shipped one.
        workers: processes on this machine.
        engine: what runs them; the nodes of a cluster must see ``paths``, ``out`` and ``checkpoint``.
        device: where each process runs the detector; on a cluster, only CPUs are used.
        batch_size, audio_stream: see `avff_lib.inference.predictor.analyze_file`.

    Returns:
        The number of ``paths`` with each label, and with an ``"error"``.

    Raises:
        AVFFError: ``out`` holds something else, a damaged part, or predictions of another detector; or a
            worker died.
    """
    require_extra("avff predict --parquet", "pyarrow")
    model = _detector(checkpoint, device)
    settings = {
        "detector": weights_digest(model),
        "calibration": calibration_digest(model),
        "audio_stream": audio_stream,
    }
    claim_folder(out, SETTINGS_NAME, settings, "set of predictions")
    write = partial(
        _write_part,
        out=out,
        checkpoint=checkpoint,
        device=device,
        batch_size=batch_size,
        audio_stream=audio_stream,
        metadata={"avff_lib": __version__, **{name: str(value) for name, value in settings.items()}},
    )
    with locked(out):
        wanted = [(path, _identity(path)) for path in paths]
        done = _stored(out)
        missing = [(path, identity) for path, identity in wanted if identity not in done]
        size = min(PART_SIZE, -(-len(missing) // (PARTS_PER_WORKER * workers)))
        parts = [missing[first : first + size] for first in range(0, len(missing), size or 1)]
        for labels in parallel_map(
            write, parts, workers, description="scoring", unit="part", bar=bool(parts), engine=engine
        ):
            done |= labels
    return Counter(done[identity] for _, identity in wanted)


def _identity(path: Path) -> Identity:
    name, size, changed = file_identity(path)
    return _text(name), size, changed


def _text(name: str) -> str:
    """A name without the bytes that are not UTF-8, which Parquet refuses."""
    return name.encode(errors="backslashreplace").decode()


def _stored(out: Path) -> dict[Identity, str]:
    """Label, or ``"error"``, of each file that a part holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored: dict[Identity, str] = {}
    for part in sorted(out.glob("part-*.parquet")):
        try:
            table = pq.read_table(part, columns=["path", "bytes", "changed", "label"])
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise AVFFError(
                f"{part} cannot be read ({reason}); remove it, and its files are scored again"
            ) from None
        for row in table.to_pylist():
            stored[_identity_of(row)] = row["label"] or "error"
    return stored


def _identity_of(row: dict[str, Any]) -> Identity:
    return row["path"], row["bytes"], row["changed"]


@cache  # each worker loads it once
def _detector(checkpoint: str, device: str) -> Detector:
    return Detector.from_pretrained(checkpoint, device=device)


def _write_part(
    files: Sequence[tuple[Path, Identity]],
    *,
    out: Path,
    checkpoint: str,
    device: str,
    batch_size: int,
    audio_stream: int | None,
    metadata: dict[str, str],
) -> dict[Identity, str]:
    """Score some files and write their part; returns their labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    model = _detector(checkpoint, device)
    marks = [out / f".{_digest(identity)}.begun" for _, identity in files]
    rows = []
    for (path, identity), mark in zip(files, marks, strict=True):
        deaths = mark.stat().st_size if mark.exists() else 0
        if deaths >= MAX_DEATHS:
            reason = f"{path} cannot be scored: {deaths} processes ended over it; try it without --parquet"
            rows.append(_row(failed_analysis(path, model, reason).prediction, identity))
            continue
        with mark.open("a") as file:  # a byte for each process that starts and never reports back
            file.write(".")
        try:
            analysis = analyze_file(
                path, model, batch_size=batch_size, audio_stream=audio_stream, views=False
            )
        finally:
            mark.unlink()
        rows.append(_row(analysis.prediction, identity))
    with atomic_write(out / f"part-{_digest(files)}.parquet") as partial_path:
        pq.write_table(pa.Table.from_pylist(rows, _schema().with_metadata(metadata)), partial_path)
    for mark in marks:
        mark.unlink(missing_ok=True)
    return {_identity_of(row): row["label"] or "error" for row in rows}


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


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
        "facts": asdict(file.facts) if file.facts else None,
        "warnings": [_text(warning) for warning in file.warnings],
        "family": file.model["family"],
        "trained_on": file.model["trained_on"],
        "error": _text(file.error) if file.error else None,
    }


def _schema() -> Any:
    import pyarrow as pa

    text, texts, number, count = pa.string(), pa.list_(pa.string()), pa.float64(), pa.int64()
    span = {"start": number, "end": number}
    segments = pa.list_(pa.struct({**span, "face": count, "score": number}))
    spans = pa.list_(pa.struct(span))
    facts = pa.struct(
        {
            **{"duration": number, "width": count, "height": count, "frame_rate": number},
            **{"video_codec": text, "sample_rate": count, "channels": count, "audio_codec": text},
            **{"writer": text, "container": text, "frames": count, "repeated_frames": count},
            **{"frozen": spans, "variable_frame_rate": pa.bool_(), "missing_frames": count},
            **{"sound_delay": number, "sound_shortfall": number, "bandwidth": number},
            **{"digital_silence": spans, "lag": number, "lag_confidence": number},
            "lag_reliable": pa.bool_(),
        }
    )
    return pa.schema(
        {
            **{"path": text, "bytes": count, "changed": count, "label": text, "reasons": texts},
            **{"score": number, "prediction": number, "threshold": number},
            **{"face": count, "faces": count, "windows": count, "coverage": number},
            **{f"ood_{stream}": number for stream in OOD_STREAMS},
            **{"segments": segments, "gaps": pa.list_(pa.struct({**span, "obstacle": text}))},
            "facts": facts,
            **{"warnings": texts, "family": text, "trained_on": text, "error": text},
        }
    )

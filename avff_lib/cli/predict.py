"""``avff predict``: videos, folders and patterns -> predictions, as text, JSON, CSV or a page."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from os.path import exists, isdir  # False for paths that Path.exists raises on
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, TypeVar

from tqdm import tqdm
from tyro.conf import Positional, arg

from avff_lib.cli.common import error_rates
from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.cluster import Engine
from avff_lib.utils.device import Device, pick_device
from avff_lib.utils.extras import require_extra
from avff_lib.utils.files import find_videos

if TYPE_CHECKING:
    import torch

    from avff_lib.inference.prediction import FilePrediction
    from avff_lib.inference.predictor import FileAnalysis
    from avff_lib.models import Detector

CSV_COLUMNS = (
    "path",
    "label",
    "reasons",
    "score",
    "prediction",
    "threshold",
    "offset",
    "face",
    "faces",
    "windows",
    "coverage",
    "ood_audio",
    "ood_visual",
    "ood_joint",
    "segments",
    "gaps",
    "lag",
    "lag_confidence",
    "lag_reliable",
    "frames",
    "repeated_frames",
    "frozen",
    "missing_frames",
    "variable_frame_rate",
    "digital_silence",
    "sound_delay",
    "sound_shortfall",
    "bandwidth",
    "writer",
    "warnings",
    "family",
    "trained_on",
    "error",
)
SEVERAL_FILES = 4  # from which on processes pay off; starting them costs as much as 20 s of video

Result = TypeVar("Result")


def predict(
    files: Positional[tuple[str, ...]],
    checkpoint: str = "avff-people",
    json_: Annotated[bool, arg(name="json")] = False,
    csv_: Annotated[Path | None, arg(name="csv")] = None,
    report: Path | None = None,
    parquet: Path | None = None,
    device: Device = "auto",
    batch_size: int = 16,
    audio_stream: int | None = None,
    workers: int | None = None,
    engine: Engine = "local",
) -> int:
    """Score videos, and label each one real or fake, or in sync or out of sync, or undetermined.

    Args:
        files: videos with sound, folders to search for videos, or patterns such as clips/scene?.mp4.
        checkpoint: folder or hub id of a detector, or the name of a shipped one: avff-people, which decides
            whether lips and voice are in sync, or avff-tiny or avffmae-tiny, trained only on drawn faces.
        json_: print a JSON list with one object per file instead of text.
        csv_: write a table to this file, one row per video.
        report: write an HTML page to this file.
        parquet: for many videos: write Parquet files to this folder, and print only counts; run again to
            continue after an interruption.
        device: where the detector runs; auto takes a GPU if there is one.
        batch_size: number of windows that the detector takes at once.
        audio_stream: number of the sound track, from 1; by default the one that players play, or another one
            if that is silent.
        workers: number of files scored at once, each in a process; by default one per core for four files or
            more, and one with a GPU.
        engine: what runs them: this machine, or, with --parquet, a Ray cluster that reads the same files.
    """
    if report is not None:
        require_extra("avff predict --report", "matplotlib")
    for name, value in (("batch size", batch_size), ("number of workers", workers)):
        if value is not None and value < 1:
            raise AVFFError(f"the {name} is {value}; expected 1 or more")
    if engine == "ray" and parquet is None:
        raise AVFFError("--engine ray needs --parquet, a folder that all nodes see")
    if parquet is not None and (json_ or csv_ or report):
        raise AVFFError("--parquet takes the place of --json, --csv and --report; leave those out")
    paths = media_files(files)
    if parquet is not None:
        if engine == "ray" and device == "cuda":
            raise AVFFError("--engine ray scores on processors; leave out --device cuda")
        where = pick_device("cpu" if engine == "ray" else device, "--device")
        return _predict_many(paths, parquet, checkpoint, where, batch_size, audio_stream, workers, engine)
    for out in (csv_, report):
        _check_output(out, paths)
    if csv_ is not None and csv_ == report:
        raise AVFFError(f"{csv_} cannot be a table and a page; name another file for one of them")
    if report is not None:
        from avff_lib.report import Page
    where = pick_device(device, "--device")
    model = _detector(checkpoint, where)
    page = None if report is None else Page(model)
    if workers is None:
        alone = where.type == "cuda" or len(paths) < SEVERAL_FILES
        workers = 1 if alone else os.cpu_count() or 1
    workers = min(workers, len(paths))
    analyses: Iterator[FileAnalysis]
    if workers == 1:
        analyses = (_analyze(path, model, batch_size, audio_stream, report is not None) for path in paths)
    else:
        analyze = partial(
            _analyze_in_worker,
            checkpoint=checkpoint,
            device=where,
            batch_size=batch_size,
            audio_stream=audio_stream,
            views=report is not None,
        )
        analyses = _in_parallel(analyze, paths, workers, partial(_crashed, model))
    predictions: list[FilePrediction] = []
    try:
        for analysis in analyses:
            predictions.append(analysis.prediction)
            if page is not None:
                page.add(analysis)
            if not json_:
                _print_prediction(analysis.prediction)
    finally:  # keep earlier results after an interruption or a crash
        if json_:
            print(json.dumps([asdict(file) for file in predictions], indent=2))
        try:
            if csv_ is not None:
                _write(csv_, _table(predictions))
        finally:
            if report is not None and page is not None:
                _write(report, page.html())
    if not json_:
        print(f"The model was trained on {model.config.trained_on}.")
        if model.config.calibration.clips:
            print(f"At its threshold it had {error_rates(model.config.calibration)}.")
    return 2 if any(file.error for file in predictions) else 0


def _predict_many(
    paths: Sequence[Path],
    out: Path,
    checkpoint: str,
    device: torch.device,
    batch_size: int,
    audio_stream: int | None,
    workers: int | None,
    engine: Engine,
) -> int:
    """Write predictions to a folder of Parquet files, and print the number of each kind."""
    from avff_lib.inference.store import predict_to_parquet

    counts = predict_to_parquet(
        paths,
        out,
        checkpoint,
        workers=workers or (1 if device.type == "cuda" else os.cpu_count() or 1),
        engine=engine,
        device=str(device),
        batch_size=batch_size,
        audio_stream=audio_stream,
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"{len(paths)} files: {kinds}; their predictions are in {out}")
    return 2 if counts["error"] else 0


def media_files(names: Sequence[str]) -> list[Path]:
    """The files behind names of files, folders and patterns, each once, folders in sorted order.

    The name of a missing file is kept, and is refused later, when it is read.

    Raises:
        AVFFError: no name is given, a folder has no video in it, or no file matches a pattern.
    """
    if not names:
        raise AVFFError("no file was named; give one or more videos, as in: avff predict some.mp4")
    paths: dict[Path, None] = {}  # an ordered set
    for name in names:
        path = Path(name)
        if isdir(path):
            inside = find_videos(path)
            if not inside:
                raise AVFFError(f"{name} holds no video; expected files such as .mp4, .mkv, .webm, .mpg")
        elif not exists(path) and glob.has_magic(name):
            matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
            inside = []
            for match in matches:
                inside += find_videos(match) if isdir(match) else [match]
            if not inside:
                raise AVFFError(f"no file matches {name}; check its spelling and the folder it starts from")
        else:
            inside = [path]
        paths.update(dict.fromkeys(inside))
    return list(paths)


def _check_output(out: Path | None, inputs: Sequence[Path]) -> None:
    """Raise an `AVFFError` before hours of work if an output cannot be written or is one of the inputs."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise AVFFError(f"{out} cannot be written: there is no folder {out.parent}; make it first")
    if out.is_dir() or (out.exists() and any(out.samefile(path) for path in inputs if exists(path))):
        raise AVFFError(f"{out} cannot be written: it is a folder or one of the videos; name another file")
    try:
        TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise AVFFError(f"{out} cannot be written ({error.strerror}); choose another place") from None


@cache  # each worker process loads it once
def _detector(checkpoint: str, device: torch.device) -> Detector:
    from avff_lib.models import Detector

    return Detector.from_pretrained(checkpoint, device=device)


def _analyze(
    path: Path, model: Detector, batch_size: int, audio_stream: int | None, views: bool
) -> FileAnalysis:
    """Score a file; on a terminal a bar counts the seconds of video."""
    from avff_lib.inference.predictor import analyze_file
    from avff_lib.media.decode import probe

    analyze = partial(
        analyze_file, path, model, batch_size=batch_size, audio_stream=audio_stream, views=views
    )
    total = None
    if sys.stderr.isatty():
        try:
            total = round(probe(path, audio_stream=audio_stream).duration, 1)
        except AVFFError:  # `analyze_file` reports it
            return analyze()
    with tqdm(total=total, desc=path.name, unit="s", leave=False, disable=None) as bar:
        return analyze(progress=lambda seconds: bar.update(seconds - bar.n))


def _analyze_in_worker(
    path: Path,
    *,
    checkpoint: str,
    device: torch.device,
    batch_size: int,
    audio_stream: int | None,
    views: bool,
) -> FileAnalysis:
    """Score a file, and send back only what is displayed."""
    from avff_lib.inference.predictor import analyze_file

    model = _detector(checkpoint, device)
    analysis = analyze_file(path, model, batch_size=batch_size, audio_stream=audio_stream, views=views)
    return replace(analysis, evidence=analysis.evidence if views else None, features={})


def _in_parallel(
    analyze: Callable[[Path], Result],
    paths: Sequence[Path],
    workers: int,
    crashed: Callable[[Path, AVFFError], Result],
) -> Iterator[Result]:
    """Results in the order of the paths, even if one of them crashes its process.

    Args:
        analyze: runs in a worker process.
        paths: of the files.
        workers: number of processes.
        crashed: returns the result for a file that crashes its process, from its path and the error.
    """
    from avff_lib.utils.parallel import parallel_map

    each = partial(parallel_map, analyze, unit="file", bar=sys.stderr.isatty())
    waiting = list(paths)
    while waiting:
        try:
            done = len(paths) - len(waiting)
            for result in each(tuple(waiting), workers, description="scoring", done=done):
                del waiting[0]
                yield result
        except AVFFError:  # all processes are gone, and the cause is unknown: score the next file alone
            path = waiting.pop(0)
            try:
                # With a single worker, this process itself would crash.
                (result,) = each([path], 2, description=path.name)
            except AVFFError as error:
                result = crashed(path, error)
            yield result


def _crashed(model: Detector, path: Path, error: AVFFError) -> FileAnalysis:
    from avff_lib.inference.predictor import failed_analysis

    return failed_analysis(path, model, f"{path} cannot be scored: {error}")


def _print_prediction(file: FilePrediction) -> None:
    """Print as text, above the bar if there is one."""
    from avff_lib.inference.facts import summarize_facts
    from avff_lib.inference.prediction import REASON_NOTES

    if file.error:
        tqdm.write(file.error, file=sys.stderr)  # it names the file
        return
    reasons = {reason.replace("_", " "): REASON_NOTES[reason] for reason in file.reasons}
    label = f"{file.label} ({', '.join(reasons)})" if reasons else str(file.label)
    if file.label == "out of sync" and file.offset:
        order = "after" if file.offset > 0 else "before"
        label += f", the voice about {1000 * abs(file.offset):.0f} ms {order} the lips"
    lines = [
        f"{file.path}: {label}: score {file.score:.2f}, threshold {file.threshold:.2f}, "
        f"{file.scored_windows} of {len(file.windows)} windows scored"
    ]
    lines += [f"{reason}: {note}" for reason, note in reasons.items()]
    if file.facts is not None:
        lines.append(f"facts: {'; '.join(summarize_facts(file.facts))}")
    several = len(file.faces) > 1
    if several:
        lines.append(f"{len(file.faces)} faces; face {file.face} has the highest score")
    if file.label != "undetermined":  # otherwise readers would take them for fakes
        for part in file.segments:
            owner = f", face {part.face}" if several else ""
            lines.append(
                f"windows above their threshold from {part.start:.1f} to {part.end:.1f} s "
                f"({part.score:.2f}{owner})"
            )
    lines += [f"no {gap.obstacle} from {gap.start:.1f} to {gap.end:.1f} s" for gap in file.gaps]
    lines += [f"note: {warning}" for warning in file.warnings]
    tqdm.write("\n  ".join(lines))


def _table(predictions: Sequence[FilePrediction]) -> str:
    """The predictions as CSV, one row per file; times in seconds, parts like ``0.5-2.0;3.0-4.5``."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for file in predictions:
        writer.writerow(
            {
                "path": file.path,
                "label": file.label,
                "reasons": ";".join(file.reasons),
                "score": file.score,
                "prediction": file.prediction,
                "threshold": file.threshold,
                "offset": file.offset,
                "face": file.face,
                "faces": len(file.faces),
                "windows": len(file.windows),
                "coverage": round(file.coverage, 4),
                "ood_audio": file.ood_scores.get("audio"),
                "ood_visual": file.ood_scores.get("visual"),
                "ood_joint": file.ood_scores.get("joint"),
                "segments": ";".join(f"{part.start}-{part.end}" for part in file.segments),
                "gaps": ";".join(f"{gap.obstacle} {gap.start}-{gap.end}" for gap in file.gaps),
                **_facts_columns(file),
                "warnings": "; ".join(file.warnings),
                "family": file.model["family"],
                "trained_on": file.model["trained_on"],
                "error": file.error,
            }
        )
    return text.getvalue()


def _facts_columns(file: FilePrediction) -> dict[str, object]:
    """Facts by column; all empty if there are none."""
    if file.facts is None:
        return {}
    facts = vars(file.facts)
    values = {name: facts[name] for name in CSV_COLUMNS if name in facts}
    for name in ("frozen", "digital_silence"):
        values[name] = ";".join(f"{span.start}-{span.end}" for span in facts[name])
    return values


def _write(path: Path, text: str) -> None:
    try:
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise AVFFError(f"{path} cannot be written ({error.strerror}); choose another place") from None

"""``avff predict``: videos, folders and patterns -> predictions, as lines, JSON, CSV or a page."""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from os.path import exists, isdir, isfile  # False for paths that Path.exists raises on
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

from tqdm import tqdm
from tyro.conf import Positional, arg

from avff_lib.cli.common import error_rates
from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.extras import require_extra

if TYPE_CHECKING:
    from avff_lib.inference.prediction import FilePrediction
    from avff_lib.inference.predictor import FileAnalysis
    from avff_lib.models import Detector

# Searched for in folders; a file that is named itself is scored whatever its suffix.
VIDEO_SUFFIXES = {
    ".3gp",
    ".avi",
    ".flv",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".vob",
    ".webm",
    ".wmv",
}
CSV_COLUMNS = (
    "path",
    "label",
    "unsure",
    "prediction",
    "threshold",
    "face",
    "faces",
    "windows",
    "coverage",
    "ood_audio",
    "ood_visual",
    "segments",
    "gaps",
    "warnings",
    "family",
    "trained_on",
    "error",
)


def predict(
    files: Positional[tuple[str, ...]],
    checkpoint: str = "avff-tiny",
    json_: Annotated[bool, arg(name="json")] = False,
    csv_: Annotated[Path | None, arg(name="csv")] = None,
    report: Path | None = None,
) -> int:
    """Score videos, and label each one real or fake.

    Args:
        files: videos with sound, folders that are searched for them, or patterns such as clips/scene?.mp4.
        checkpoint: folder or hub id of a detector, or the name of a shipped one: avff-tiny, avffmae-tiny.
        json_: print a JSON list with one object per file instead of lines for people.
        csv_: write a table to this file, one row per video.
        report: write a page to this file, to be opened in a browser.
    """
    if report is not None:
        require_extra("avff predict --report", "matplotlib")
    from avff_lib.models import Detector

    paths = media_files(files)
    for out in (csv_, report):
        _check_output(out, paths)
    if csv_ is not None and csv_ == report:
        raise AVFFError(f"{csv_} cannot be a table and a page; name another file for one of them")
    if report is not None:
        from avff_lib.report import Page
    model = Detector.from_pretrained(checkpoint)
    page = None if report is None else Page(model)
    predictions: list[FilePrediction] = []
    try:
        for path in paths:
            analysis = _analyze(path, model)
            predictions.append(analysis.prediction)
            if page is not None:
                page.add(analysis)
            if not json_:
                _print_prediction(analysis.prediction)
    finally:  # an interruption does not lose what was scored before it
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
            print(f"Its labels had {error_rates(model.config.calibration)}.")
    return 2 if any(file.error for file in predictions) else 0


def media_files(names: Sequence[str]) -> list[Path]:
    """The files that names of files, folders and patterns stand for, each once, folders in sorted order.

    A name of a file that does not exist is kept, and is refused when its turn comes.

    Raises:
        AVFFError: no name is given, a folder has no video in it, or no file matches a pattern.
    """
    if not names:
        raise AVFFError("no file was named; give one or more videos, as in: avff predict some.mp4")
    paths: dict[Path, None] = {}  # a set that keeps the order
    for name in names:
        path = Path(name)
        if isdir(path):
            inside = _videos_in(path)
            if not inside:
                raise AVFFError(f"{name} holds no video; expected files such as .mp4, .mkv, .webm, .mpg")
        elif not exists(path) and glob.has_magic(name):
            matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
            inside = []
            for match in matches:
                inside += _videos_in(match) if isdir(match) else [match]
            if not inside:
                raise AVFFError(f"no file matches {name}; check its spelling and the folder it starts from")
        else:
            inside = [path]
        paths.update(dict.fromkeys(inside))
    return list(paths)


def _videos_in(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(path for path in files if isfile(path) and not path.name.startswith("."))


def _check_output(out: Path | None, inputs: Sequence[Path]) -> None:
    """Raise an `AVFFError` if an output cannot be written or is one of the inputs, before hours of work."""
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


def _analyze(path: Path, model: Detector) -> FileAnalysis:
    """Score a file; on a terminal a bar counts the seconds of video."""
    from avff_lib.inference.predictor import analyze_file
    from avff_lib.media.decode import probe

    total = None
    if sys.stderr.isatty():
        try:
            total = round(probe(path).duration, 1)
        except AVFFError:  # `analyze_file` reports it
            return analyze_file(path, model)
    with tqdm(total=total, desc=path.name, unit="s", leave=False, disable=None) as bar:
        return analyze_file(path, model, progress=lambda seconds: bar.update(seconds - bar.n))


def _print_prediction(file: FilePrediction) -> None:
    if file.error:
        print(file.error, file=sys.stderr)  # it names the file
        return
    scored = sum(window.score is not None for window in file.windows)
    print(
        f"{file.path}: {file.verdict} (probability of fake {file.prediction:.2f}, threshold "
        f"{file.threshold:.2f}, {scored} of {len(file.windows)} windows scored)"
    )
    several = len(file.faces) > 1
    if several:
        print(f"  {len(file.faces)} faces; the score is that of face {file.face}")
    for part in file.segments:
        owner = f", face {part.face}" if several else ""
        print(f"  above the threshold from {part.start:.1f} to {part.end:.1f} s ({part.score:.2f}{owner})")
    for gap in file.gaps:
        print(f"  no {gap.obstacle} from {gap.start:.1f} to {gap.end:.1f} s")
    for warning in file.warnings:
        print(f"  note: {warning}")


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
                "unsure": None if file.error else int(file.unsure),
                "prediction": file.prediction,
                "threshold": file.threshold,
                "face": file.face,
                "faces": len(file.faces),
                "windows": len(file.windows),
                "coverage": round(file.coverage, 4),
                "ood_audio": file.ood_scores.get("audio"),
                "ood_visual": file.ood_scores.get("visual"),
                "segments": ";".join(f"{part.start}-{part.end}" for part in file.segments),
                "gaps": ";".join(f"{gap.obstacle} {gap.start}-{gap.end}" for gap in file.gaps),
                "warnings": "; ".join(file.warnings),
                "family": file.model["family"],
                "trained_on": file.model["trained_on"],
                "error": file.error,
            }
        )
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    try:
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise AVFFError(f"{path} cannot be written ({error.strerror}); choose another place") from None

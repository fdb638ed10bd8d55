"""``avff predict``: videos, folders and patterns -> verdicts, as lines, JSON, CSV or a page."""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from os.path import exists, isdir, isfile  # of a path that cannot be asked for they say no
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

from tqdm import tqdm
from tyro.conf import Positional, arg

from avff_lib.atomic import atomic_write
from avff_lib.clip import AVFFError
from avff_lib.commands.common import error_rates

if TYPE_CHECKING:
    from avff_lib.models import Detector
    from avff_lib.predict import Examination
    from avff_lib.verdict import Report

# What is looked for in folders; a file that is named is judged whatever its name.
SUFFIXES = {
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
}
COLUMNS = (
    *("path", "label", "unsure", "prediction", "threshold", "face", "faces", "windows", "judged"),
    *("strange_sound", "strange_picture", "segments", "gaps", "warnings", "family", "trained_on", "error"),
)


def predict(
    files: Positional[tuple[str, ...]],
    checkpoint: Path = Path("avff-tiny"),
    json_: Annotated[bool, arg(name="json")] = False,
    csv_: Annotated[Path | None, arg(name="csv")] = None,
    report: Path | None = None,
) -> int:
    """Judge videos.

    Args:
        files: videos with sound, folders that are searched for them, or patterns such as clips/scene?.mp4.
        checkpoint: folder of a saved detector, or the name of a shipped one: avff-tiny, avffmae-tiny.
        json_: print a JSON list with one object a file instead of lines for people.
        csv_: write a table there, one row a file.
        report: write a page there, to be opened in a browser.
    """
    from avff_lib.predict import load_detector
    from avff_lib.report import Page

    paths = media_files(files)
    for out in (csv_, report):
        _check_output(out, paths)
    if csv_ is not None and csv_ == report:
        raise AVFFError(f"{csv_} cannot be a table and a page; name another file for one of them")
    model = load_detector(checkpoint)
    reports, page = [], Page(model)
    try:
        for path in paths:
            examined = _examine(path, model)
            reports.append(examined.report)
            if report is not None:
                page.add(examined)
            if not json_:
                _print_report(examined.report)
    finally:  # what was judged before an interruption is not lost
        if json_:
            print(json.dumps([asdict(report) for report in reports], indent=2))
        try:
            if csv_ is not None:
                _write(csv_, _table(reports))
        finally:
            if report is not None:
                _write(report, page.html())
    if not json_:
        print(f"The model was trained on {model.config.trained_on}.")
        if model.config.calibration.clips:
            print(f"Its verdicts had {error_rates(model.config.calibration)}.")
    return 2 if any(report.error for report in reports) else 0


def media_files(names: Sequence[str]) -> list[Path]:
    """Files that are meant by names of files, folders and patterns, each once, folders in sorted order.

    A name for which there is nothing stands for itself, and is refused when it is its turn.

    Raises:
        AVFFError: no name is given, or there is no video in a folder or none that fits a pattern.
    """
    if not names:
        raise AVFFError("no file was named; give one or more videos, as in: avff predict some.mp4")
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if isdir(path):
            inside = _videos_in(path)
            if not inside:
                raise AVFFError(f"{name} holds no video; expected files such as .mp4, .mkv, .webm, .mpg")
        elif not exists(path) and glob.has_magic(name):
            matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
            inside = [
                video for match in matches for video in (_videos_in(match) if isdir(match) else [match])
            ]
            if not inside:
                raise AVFFError(f"no file fits {name}; look at its spelling and the folder it begins in")
        else:
            inside = [path]
        found.update(dict.fromkeys(inside))
    return list(found)


def _videos_in(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in files if isfile(path) and not path.name.startswith("."))


def _check_output(out: Path | None, inputs: Sequence[Path]) -> None:
    """Before hours of work: can it be written, and is it none of the videos?"""
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


def _examine(path: Path, model: Detector) -> Examination:
    """Judge a file; on a terminal a bar counts the seconds of video."""
    from avff_lib.media.decode import probe
    from avff_lib.predict import examine_file

    total = None
    if sys.stderr.isatty():
        try:
            total = round(probe(path).duration, 1)
        except AVFFError:  # it is said when the file is judged
            return examine_file(path, model)
    with tqdm(total=total, desc=path.name, unit="s", leave=False, disable=None) as bar:
        return examine_file(path, model, progress=lambda seconds: bar.update(seconds - bar.n))


def _print_report(report: Report) -> None:
    if report.error:
        print(report.error, file=sys.stderr)  # it names the file
        return
    judged = sum(window.score is not None for window in report.windows)
    print(
        f"{report.path}: {report.verdict} (probability of fake {report.prediction:.2f}, threshold "
        f"{report.threshold:.2f}, {judged} of {len(report.windows)} windows judged)"
    )
    several = len(report.faces) > 1
    if several:
        print(f"  {len(report.faces)} faces; the score is that of face {report.face}")
    for part in report.segments:
        whose = f", face {part.face}" if several else ""
        print(f"  above the threshold from {part.start:.1f} to {part.end:.1f} s ({part.score:.2f}{whose})")
    for gap in report.gaps:
        print(f"  no {gap.missing} from {gap.start:.1f} to {gap.end:.1f} s")
    for warning in report.warnings:
        print(f"  note: {warning}")


def _table(reports: Sequence[Report]) -> str:
    """The reports as CSV, one row a file; times are seconds, parts look like ``0.5-2.0;3.0-4.5``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for report in reports:
        writer.writerow(
            [
                *(
                    report.path,
                    report.label,
                    None if report.error else int(report.unsure),
                    report.prediction,
                    report.threshold,
                ),
                report.face,
                *(len(report.faces), len(report.windows), round(report.judged, 4)),
                *(report.strangeness.get(stream) for stream in ("sound", "picture")),
                ";".join(f"{part.start}-{part.end}" for part in report.segments),
                ";".join(f"{gap.missing} {gap.start}-{gap.end}" for gap in report.gaps),
                "; ".join(report.warnings),
                *(report.model["family"], report.model["trained_on"], report.error),
            ]
        )
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    try:
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise AVFFError(f"{path} cannot be written ({error.strerror}); choose another place") from None

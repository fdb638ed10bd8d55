"""Published datasets -> rows of a manifest: which dataset a folder holds, and the contents of its lists.

No file is decoded here. Layouts are described by their papers, by the READMEs that come with them, and by
public loaders; common pitfalls are named beside the code that handles them.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from avff_lib.data.manifest import Row, find_manifest, read_manifest
from avff_lib.errors import AVFFError
from avff_lib.utils.files import find_videos

ARCHIVE = re.compile(r"\.(zip|tar|tgz|gz|7z|rar)(\.\d+)?$|\.part\d*[a-z]*$|_part[a-z]+$", re.IGNORECASE)
CATEGORY_OF_TYPE = {
    "RealVideo-RealAudio": "RVRA",
    "RealVideo-FakeAudio": "RVFA",
    "FakeVideo-RealAudio": "FVRA",
    "FakeVideo-FakeAudio": "FVFA",
}
GENUINE = "genuine"
KODF_FOLDERS = ("original_videos", "audio-driven", "dffs", "dfl", "fo", "fsgan")


@dataclass(frozen=True)
class Layout:
    """How a dataset is stored.

    Attributes:
        title: its name.
        matches: whether a folder looks like it, by names in it and the beginning of a list.
        read: the rows that it lists, whether or not their files exist.
        split: whether its authors split it, with each person in only one split.
    """

    title: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Iterable[Row]]
    split: bool = False


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        root: the dataset's own folder: the given one or one inside it.
        layout: a key of `LAYOUTS`.
        rows: one for each existing file, in the dataset's order.
        missing: listed files that do not exist.
        repeated: files that are listed again.
    """

    root: Path
    layout: str
    rows: list[Row]
    missing: list[Path]
    repeated: list[Path]


def read_layout(folder: Path, layout: str = "auto") -> Listing:
    """List a dataset in a folder, or in one of its subfolders.

    Args:
        folder: where it was unpacked.
        layout: a key of `LAYOUTS`; ``"auto"`` takes the first that matches. It never takes ``"genuine"``,
            which labels every video as real and must be chosen explicitly.

    Raises:
        AVFFError: nothing in ``folder`` looks like a dataset, or one of its lists cannot be read.
    """
    if not folder.is_dir():
        raise AVFFError(f"{folder} is not a folder; give the one that the dataset was unpacked into")
    if layout not in ("auto", *LAYOUTS):
        raise AVFFError(f"the layout {layout!r} does not exist; choose from auto, {', '.join(LAYOUTS)}")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = [name for name in LAYOUTS if name != GENUINE] if layout == "auto" else [layout]
    for root in (folder, *inside):
        for name in names:
            if LAYOUTS[name].matches(root):
                return _listing(root, name)
    raise AVFFError(_what_lies_there(folder, layout))


def _listing(root: Path, name: str) -> Listing:
    rows: dict[Path, Row] = {}
    missing: dict[Path, None] = {}
    repeated = []
    try:
        for row in LAYOUTS[name].read(root.absolute()):  # as the paths of a manifest are
            inside = os.path.relpath(row.path, root.absolute())
            if Path(inside).parts[:1] == ("..",):
                raise ValueError(f"{inside} is not below it")
            if row.path in rows or row.path in missing:
                repeated.append(row.path)
            elif row.path.is_file():
                rows[row.path] = row
            else:
                missing[row.path] = None
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error, OSError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise AVFFError(
            f"{root} looks like {LAYOUTS[name].title}, but its lists cannot be read ({reason}); "
            "download them again, or name another --layout"
        ) from None
    return Listing(root, name, list(rows.values()), list(missing), repeated)


def _what_lies_there(folder: Path, layout: str) -> str:
    archives = sorted(path.name for path in folder.iterdir() if ARCHIVE.search(path.name))
    wanted = "any known dataset" if layout == "auto" else LAYOUTS[layout].title
    if archives:
        return (
            f"{folder} holds {archives[0]} and no files of {wanted}; unpack its {len(archives)} archives "
            "first (7z x on the first part of a divided one)"
        )
    genuine = ""
    if layout == "auto" and (videos := find_videos(folder)):
        genuine = f"; if its {len(videos)} videos are all genuine, take --layout {GENUINE}"
    return (
        f"{folder} does not look like {wanted}; expected one of {', '.join(LAYOUTS)}, "
        f"such as a folder with real/ and fake/ in it{genuine}"
    )


# --- forgeries ---


def _fakeavceleb(root: Path) -> Iterator[Row]:
    """Khalid et al. 2021; version 1.2. Its authors published no lists of training and test clips.

    ``meta_data.csv`` ends its header with a comma: the column without a name holds the folder, and ``path``
    the file. Other copies name them ``filename`` and ``path``. The folder in the list begins with
    ``FakeAVCeleb``, even if the folder on disk has another name.
    """
    with (root / "meta_data.csv").open(newline="", encoding="utf-8-sig") as file:
        for record in csv.DictReader(file):
            name, folder = (
                (record["filename"], record["path"]) if "filename" in record else (record["path"], record[""])
            )
            inside = Path(*Path(folder).parts[1:])
            targets = (record[key].strip() for key in ("target1", "target2"))
            category = CATEGORY_OF_TYPE[record["type"]]
            yield Row(
                root / inside / name,
                label=int(category != "RVRA"),
                category=category,
                method=record["method"],
                source=record["source"],
                targets=tuple(target for target in targets if target not in ("", "-")),
                group=f"{record['race']}, {record['gender']}",
            )


def _dfdc(root: Path) -> Iterator[Row]:
    """Dolhansky et al. 2020. A fake names the file it was made from; the person in it is not published.

    Nor is the forged stream: all fakes are listed as FVRA, which is true of most.
    """
    for listed in _dfdc_lists(root):
        for name, entry in json.loads(listed.read_text()).items():
            label = int(entry["label"] == "FAKE")
            yield _dfdc_row(listed.parent / name, label, entry.get("original") or name, "train")


def _dfdc_test(root: Path) -> Iterator[Row]:
    """Its test set, which comes with one of two lists and does not name the sources of its fakes."""
    if (root / "labels.csv").is_file():
        with (root / "labels.csv").open(newline="", encoding="utf-8-sig") as file:
            labels = {record["filename"]: int(record["label"]) for record in csv.DictReader(file)}
    else:
        entries = json.loads((root / "metadata.json").read_text())
        labels = {name: int(entry["is_fake"]) for name, entry in entries.items()}
    for name, label in labels.items():
        yield _dfdc_row(root / name, label, name, "test")


def _dfdc_row(path: Path, label: int, original: str, split: str) -> Row:
    method = "unknown" if label else "real"
    return Row(path, label, "FVRA" if label else "RVRA", method, Path(original).stem, split=split)


def _dfdc_lists(root: Path) -> list[Path]:
    return sorted([*root.glob("metadata.json"), *root.glob("dfdc_train_part_*/metadata.json")])


def _is_dfdc_test(root: Path) -> bool:
    if (root / "labels.csv").is_file():
        return _head(root / "labels.csv").startswith("filename,label")
    return any('"is_fake"' in _head(path) for path in root.glob("metadata.json"))


def _lav_df(root: Path) -> Iterator[Row]:
    """Cai et al. 2022. Its people have no names: a fake's source is the file that it was made from."""
    listed = next(path for path in _lav_df_lists(root) if path.is_file())
    for entry in json.loads(listed.read_text()):
        yield Row(
            root / entry["file"],
            label=int(entry["n_fakes"] > 0),
            category=_category(entry["modify_video"], entry["modify_audio"]),
            method="content-driven" if entry["n_fakes"] else "real",
            source=Path(entry["original"] or entry["file"]).stem,
            split={"dev": "val"}.get(entry["split"], entry["split"]),
            fake_segments=_segments(entry["fake_periods"]),
        )


def _lav_df_lists(root: Path) -> tuple[Path, Path]:
    return root / "metadata.min.json", root / "metadata.json"


def _av_deepfake1m(root: Path) -> Iterator[Row]:
    """Cai et al. 2024, and its successor AV-Deepfake1M++. Labels of the test part are not published.

    ``modify_type`` is spelt with underscores; a public loader compares it with ``both-modified``, and loses
    that class.
    """
    for listed in _av_deepfake1m_lists(root):
        part = listed.name.removesuffix("_metadata.json")
        for entry in json.loads(listed.read_text()):
            forged = entry["modify_type"].replace("-", "_")
            if forged not in ("real", "visual_modified", "audio_modified", "both_modified"):
                raise ValueError(f"modify_type is {forged!r}")
            video, audio = (
                forged in (f"{stream}_modified", "both_modified") for stream in ("visual", "audio")
            )
            known = re.search(r"id\d{5}", f"{entry['file']} {entry.get('original')}")  # VoxCeleb2's number
            yield Row(
                root / part / entry["file"],
                label=int(forged != "real"),
                category=_category(video, audio),
                method=forged if not audio else entry.get("audio_model") or forged,
                source=known.group() if known else Path(entry["file"]).parts[0],
                split=part,
                fake_segments=_segments(entry.get("fake_segments") or []),
            )


def _av_deepfake1m_lists(root: Path) -> list[Path]:
    return [path for part in ("train", "val") if (path := root / f"{part}_metadata.json").is_file()]


def _kodf(root: Path) -> Iterator[Row]:
    """Kwon et al. 2021. The folders of forgeries are named after their methods; some have no sound."""
    for folder in KODF_FOLDERS:
        label = int(folder != "original_videos")
        for path in find_videos(root / folder):
            yield Row(
                path,
                label,
                "FVRA" if label else "RVRA",
                method=folder if label else "real",
                source=path.relative_to(root / folder).parts[0].split("_")[0],
            )


def _folders(root: Path) -> Iterator[Row]:
    """Your own clips in ``real/`` and ``fake/``. Folders inside these, if any, distinguish people."""
    for folder in sorted(root.iterdir()):
        if folder.name.lower() in ("real", "fake"):
            label = int(folder.name.lower() == "fake")
            for path in find_videos(folder):
                parts = path.relative_to(folder).parts
                source = parts[0] if len(parts) > 1 else path.stem
                yield Row(path, label, "FVFA" if label else "RVRA", "unknown" if label else "real", source)


# --- genuine recordings, for stage one and for `avff_lib.forge` ---


def _genuine(root: Path) -> Iterator[Row]:
    """Your own clips, all real, such as a platform's uploads. A person is a folder, or else a file."""
    for path in find_videos(root):
        parts = path.relative_to(root).parts
        yield _real(path, parts[0] if len(parts) > 1 else path.stem, "test")


def _lrs3(root: Path) -> Iterator[Row]:
    """Afouras et al. 2018; the YouTube channel's videos distinguish its speakers."""
    for part, split in (("pretrain", "train"), ("trainval", "train"), ("test", "test")):
        yield from (_real(path, path.parent.name, split) for path in find_videos(root / part))


def _lrs2(root: Path) -> Iterator[Row]:
    """Afouras et al. 2018, ``mvlrs_v1``. Speakers are not published: a source is a broadcast.

    Its lists name a clip as ``<broadcast>/<number>``; in ``test.txt``, more text follows after a space.
    """
    for name, folder in (("pretrain", "pretrain"), ("train", "main"), ("val", "main"), ("test", "main")):
        for line in (root / f"{name}.txt").read_text().splitlines():
            if line.strip():
                path = (root / folder / line.split()[0]).with_suffix(".mp4")
                yield _real(path, path.parent.name, "train" if name == "pretrain" else name)


def _voxceleb2(root: Path) -> Iterator[Row]:
    """Chung et al. 2018. The sound is published separately; `avff_lib.data.voxceleb.join_sound` adds it."""
    for part, split in (("dev", "train"), ("test", "test")):
        for path in find_videos(root / part / "mp4"):
            yield _real(path, path.relative_to(root / part / "mp4").parts[0], split)


def _grid(root: Path) -> Iterator[Row]:
    """Cooke et al. 2006: ``s1`` to ``s34``, with or without ``video/`` in between; s21 has no video."""
    for speaker in _grid_speakers(root):
        yield from (_real(path, speaker.name, "test") for path in find_videos(speaker))


def _grid_speakers(root: Path) -> list[Path]:
    found = [path for path in root.iterdir() if path.is_dir() and re.fullmatch(r"s\d{1,2}", path.name)]
    return sorted(found, key=lambda path: int(path.name[1:]))


def _real(path: Path, source: str, split: str) -> Row:
    return Row(path, 0, "RVRA", "real", source, split=split)


# --- what several of them need ---


def _category(video: bool, audio: bool) -> str:
    return f"{'F' if video else 'R'}V{'F' if audio else 'R'}A"


def _segments(periods: list[list[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(start), float(end)) for start, end in periods if start < end)


def _head(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(1000)


def _has(*names: str) -> Callable[[Path], bool]:
    return lambda root: all((root / name).exists() for name in names)


LAYOUTS: dict[str, Layout] = {
    "manifest": Layout(
        "a folder with a manifest",
        lambda root: find_manifest(root).is_file(),
        lambda root: read_manifest(find_manifest(root)),
        split=True,
    ),
    "fakeavceleb": Layout("FakeAVCeleb", _has("meta_data.csv"), _fakeavceleb),
    "lav-df": Layout(
        "LAV-DF",
        lambda root: any('"n_fakes"' in _head(path) for path in _lav_df_lists(root) if path.is_file()),
        _lav_df,
        split=True,
    ),
    "av-deepfake1m": Layout(
        "AV-Deepfake1M", lambda root: bool(_av_deepfake1m_lists(root)), _av_deepfake1m, split=True
    ),
    "dfdc": Layout("DFDC", lambda root: any('"label"' in _head(path) for path in _dfdc_lists(root)), _dfdc),
    "dfdc-test": Layout("the test set of DFDC", _is_dfdc_test, _dfdc_test, split=True),
    "kodf": Layout("KoDF", _has("original_videos"), _kodf),
    "lrs3": Layout("LRS3", _has("trainval", "test"), _lrs3, split=True),
    "lrs2": Layout("LRS2", _has("main", "train.txt"), _lrs2, split=True),
    "voxceleb2": Layout("VoxCeleb2", lambda root: any(root.glob("*/mp4/id*")), _voxceleb2, split=True),
    "grid": Layout("GRID", lambda root: bool(_grid_speakers(root)), _grid),
    "folder": Layout(
        "a folder with real/ and fake/",
        lambda root: any(path.name.lower() in ("real", "fake") for path in root.iterdir() if path.is_dir()),
        _folders,
    ),
    GENUINE: Layout("a folder of genuine clips", lambda root: bool(find_videos(root)), _genuine),
}

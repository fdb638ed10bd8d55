"""Published datasets: miniature trees of their exact shape -> rows, and what a person is told about them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from avff_lib.cli import main
from avff_lib.data.layouts import LAYOUTS, read_layout
from avff_lib.data.manifest import Row, read_manifest, write_manifest
from avff_lib.data.splits import leaks_at_random, shared_identities, split_by_identity, split_sources
from avff_lib.errors import AVFFError
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip

FAKEAVCELEB = "source,target1,target2,method,category,type,race,gender,path,\n"


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def short(rows: list[Row], root: Path) -> list[tuple]:
    return [
        (row.path.relative_to(root).as_posix(), row.label, row.category, row.method, row.source, row.split)
        for row in rows
    ]


def fakeavceleb(root: Path) -> Path:
    """Five lines: a real clip, listed twice; three fakes of each category; a file that is not there."""
    place = "African/men/id00076"
    lines = [
        f"id00076,-,-,real,A,RealVideo-RealAudio,African,men,00109.mp4,FakeAVCeleb/RealVideo-RealAudio/{place}",
        f"id00076,-,-,real,A,RealVideo-RealAudio,African,men,00109.mp4,FakeAVCeleb/RealVideo-RealAudio/{place}",
        f"id00076,-,-,rtvc,B,RealVideo-FakeAudio,African,men,00109_fake.mp4,FakeAVCeleb/RealVideo-FakeAudio/{place}",
        f"id00076,id00166,-,wav2lip,C,FakeVideo-RealAudio,African,men,1_id00166.mp4,FakeAVCeleb/FakeVideo-RealAudio/{place}",
        f"id00076,id00166,id00173,faceswap-wav2lip,D,FakeVideo-FakeAudio,African,men,1_id00173.mp4,FakeAVCeleb/FakeVideo-FakeAudio/{place}",
        f"id00076,id00167,-,fsgan,C,FakeVideo-RealAudio,African,men,gone.mp4,FakeAVCeleb/FakeVideo-RealAudio/{place}",
    ]
    dataset = root / "FakeAVCeleb_v1.2"
    touch(
        dataset,
        f"RealVideo-RealAudio/{place}/00109.mp4",
        f"RealVideo-FakeAudio/{place}/00109_fake.mp4",
        f"FakeVideo-RealAudio/{place}/1_id00166.mp4",
        f"FakeVideo-FakeAudio/{place}/1_id00173.mp4",
    )
    (dataset / "meta_data.csv").write_text(FAKEAVCELEB + "\n".join(lines) + "\n")
    return dataset


def test_fakeavceleb_with_its_nameless_column_its_repeated_rows_and_its_other_folder_name(tmp_path):
    dataset = fakeavceleb(tmp_path)
    listing = read_layout(tmp_path)  # the folder above it
    assert (listing.root, listing.layout) == (dataset, "fakeavceleb")
    assert [row.category for row in listing.rows] == ["RVRA", "RVFA", "FVRA", "FVFA"]
    assert [row.label for row in listing.rows] == [0, 1, 1, 1]
    assert [row.targets for row in listing.rows] == [(), (), ("id00166",), ("id00166", "id00173")]
    assert {(row.source, row.group) for row in listing.rows} == {("id00076", "African, men")}
    assert [path.name for path in listing.repeated] == ["00109.mp4"]
    assert [path.name for path in listing.missing] == ["gone.mp4"]


def test_fakeavceleb_with_the_other_header(tmp_path):
    dataset = fakeavceleb(tmp_path)
    text = (dataset / "meta_data.csv").read_text()
    (dataset / "meta_data.csv").write_text(text.replace("gender,path,\n", "gender,filename,path\n"))
    assert len(read_layout(dataset).rows) == 4


def test_dfdc_in_parts_with_a_part_that_is_missing(tmp_path):
    for part, label in ((0, "FAKE"), (7, "REAL")):
        folder = tmp_path / f"dfdc_train_part_{part}"
        entry = {"label": label, "split": "train", "original": "orig.mp4" if part == 0 else None}
        write_json(folder / "metadata.json", {f"clip{part}.mp4": entry})
        touch(folder, f"clip{part}.mp4")
    assert short(read_layout(tmp_path).rows, tmp_path) == [
        ("dfdc_train_part_0/clip0.mp4", 1, "FVRA", "unknown", "orig", "train"),
        ("dfdc_train_part_7/clip7.mp4", 0, "RVRA", "real", "clip7", "train"),
    ]


@pytest.mark.parametrize("kind", ["metadata.json", "labels.csv"])
def test_the_test_set_of_dfdc(kind, tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    if kind == "labels.csv":
        (tmp_path / kind).write_text("filename,label\na.mp4,1\nb.mp4,0\n")
    else:
        write_json(tmp_path / kind, {"a.mp4": {"is_fake": 1}, "b.mp4": {"is_fake": 0}})
    listing = read_layout(tmp_path)
    assert listing.layout == "dfdc-test"
    assert [(row.path.name, row.label, row.split) for row in listing.rows] == [
        ("a.mp4", 1, "test"),
        ("b.mp4", 0, "test"),
    ]


@pytest.mark.parametrize("name", ["metadata.min.json", "metadata.json"])
def test_lav_df_with_its_periods_and_its_dev_split(name, tmp_path):
    common = {"duration": 4.0, "video_frames": 100, "audio_channels": 1, "audio_frames": 64000}
    real = {"n_fakes": 0, "fake_periods": [], "original": None, "modify_video": False, "modify_audio": False}
    fake = {**real, "n_fakes": 1, "fake_periods": [[1.0, 1.5]], "original": "train/000001.mp4"}
    entries = [
        {"file": "train/000001.mp4", "split": "train", **real, **common},
        {"file": "dev/000002.mp4", "split": "dev", **fake, "modify_audio": True, **common},
        {"file": "test/000003.mp4", "split": "test", **fake, "modify_video": True, **common},
    ]
    write_json(tmp_path / name, entries)
    touch(tmp_path, *(entry["file"] for entry in entries))
    listing = read_layout(tmp_path)
    assert listing.layout == "lav-df"
    assert short(listing.rows, tmp_path) == [
        ("train/000001.mp4", 0, "RVRA", "real", "000001", "train"),
        ("dev/000002.mp4", 1, "RVFA", "content-driven", "000001", "val"),
        ("test/000003.mp4", 1, "FVRA", "content-driven", "000001", "test"),
    ]
    assert listing.rows[1].fake_segments == ((1.0, 1.5),)


def test_av_deepfake1m_keeps_the_class_that_a_loader_loses(tmp_path):
    place = "id00012/21Uxsk56VDQ/00001"
    for part in ("train", "val"):
        entries = [
            {"file": f"{place}/real.mp4", "modify_type": "real", "audio_model": None, "fake_segments": []},
            {
                "file": f"{place}/both.mp4",
                "modify_type": "both_modified",
                "audio_model": "vits",
                "fake_segments": [[0.5, 0.9]],
            },
            {"file": f"{place}/video.mp4", "modify_type": "visual_modified", "fake_segments": [[0.5, 0.9]]},
        ]
        write_json(tmp_path / f"{part}_metadata.json", entries)
        touch(tmp_path / part, *(entry["file"] for entry in entries))
    listing = read_layout(tmp_path)
    assert listing.layout == "av-deepfake1m"
    assert short(listing.rows, tmp_path)[1:4] == [
        (f"train/{place}/both.mp4", 1, "FVFA", "vits", "id00012", "train"),
        (f"train/{place}/video.mp4", 1, "FVRA", "visual_modified", "id00012", "train"),
        (f"val/{place}/real.mp4", 0, "RVRA", "real", "id00012", "val"),
    ]
    assert listing.rows[1].fake_segments == ((0.5, 0.9),)


def test_kodf_names_methods_after_folders(tmp_path):
    touch(tmp_path, "original_videos/101/101_a.mp4", "dfl/101_205/x.mp4", "audio-driven/101/y.mp4")
    assert short(read_layout(tmp_path).rows, tmp_path) == [
        ("original_videos/101/101_a.mp4", 0, "RVRA", "real", "101", "test"),
        ("audio-driven/101/y.mp4", 1, "FVRA", "audio-driven", "101", "test"),
        ("dfl/101_205/x.mp4", 1, "FVRA", "dfl", "101", "test"),
    ]


@pytest.mark.parametrize(
    ("layout", "files", "expected"),
    [
        (
            "lrs3",
            ("pretrain/0Fi83BHQsMA/00002.mp4", "trainval/0af00UcTOSc/50001.mp4", "test/xyz/00003.mp4"),
            [("0Fi83BHQsMA", "train"), ("0af00UcTOSc", "train"), ("xyz", "test")],
        ),
        (
            "voxceleb2",
            ("dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "test/mp4/id00017/01dfn2spqyE/00001.mp4"),
            [("id00012", "train"), ("id00017", "test")],
        ),
        (
            "grid",
            ("s1/bbaf2n.mpg", "s2/video/bbaf3s.mpg", "s10/x.mpg"),
            [("s1", "test"), ("s2", "test"), ("s10", "test")],
        ),
    ],
)
def test_genuine_recordings(layout, files, expected, tmp_path):
    touch(tmp_path, *files)
    listing = read_layout(tmp_path)
    assert listing.layout == layout
    assert [(row.source, row.split) for row in listing.rows] == expected
    assert {(row.label, row.method) for row in listing.rows} == {(0, "real")}


def test_lrs2_by_its_lists_with_notes_behind_a_name(tmp_path):
    lists = {"pretrain": "1/00001", "train": "2/00002", "val": "3/00003", "test": "4/00004 NF\n4/00005 MV"}
    for name, text in lists.items():
        (tmp_path / f"{name}.txt").write_text(f"{text}\n")
    touch(tmp_path, "pretrain/1/00001.mp4", *(f"main/{number}/0000{number}.mp4" for number in (2, 3, 4)))
    listing = read_layout(tmp_path)
    assert [(row.source, row.split) for row in listing.rows] == [
        *(("1", "train"), ("2", "train"), ("3", "val"), ("4", "test"))
    ]
    assert [path.name for path in listing.missing] == ["00005.mp4"]


def test_a_folder_of_ones_own(tmp_path):
    touch(
        tmp_path,
        "Real/anna/a.mp4",
        "Real/anna/b.MOV",
        "fake/c.mp4",
        "fake/notes.txt",
        "fake/._c.mp4",
        "else/d.mp4",
    )
    assert short(read_layout(tmp_path).rows, tmp_path) == [
        ("Real/anna/a.mp4", 0, "RVRA", "real", "anna", "test"),
        ("Real/anna/b.MOV", 0, "RVRA", "real", "anna", "test"),
        ("fake/c.mp4", 1, "FVFA", "unknown", "c", "test"),
    ]


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ((), "does not look like any known dataset; expected one of manifest, fakeavceleb"),
        (("train.zip.001", "train.zip.002"), r"holds train\.zip\.001 .*unpack its 2 archives first"),
        (("FakeAVCeleb_v1.2.zip",), "unpack its 1 archives first"),
    ],
)
def test_a_folder_with_nothing_to_read(files, match, tmp_path):
    touch(tmp_path, *files)
    with pytest.raises(AVFFError, match=match):
        read_layout(tmp_path)


def test_lists_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "meta_data.csv").write_text("source,path\nid1,a.mp4\n")
    with pytest.raises(
        AVFFError, match=r"looks like FakeAVCeleb, but its lists cannot be read \(no entry ''"
    ):
        read_layout(tmp_path)
    with pytest.raises(AVFFError, match="layout 'fog' does not exist; choose from auto, manifest"):
        read_layout(tmp_path, "fog")
    with pytest.raises(AVFFError, match="does not look like LRS3"):
        read_layout(tmp_path, "lrs3")
    write_json(tmp_path / "metadata.json", {"../../secret.mp4": {"label": "REAL"}})
    with pytest.raises(AVFFError, match=r"secret\.mp4 is not below it"):
        read_layout(tmp_path, "dfdc")
    with pytest.raises(AVFFError, match="is not a folder"):
        read_layout(tmp_path / "nowhere")


# --- splits ---


def pairs(people: int, clips: int, partners: int, seed: int = 0) -> list[Row]:
    """Real clips of everybody, and fakes that put in one of ``partners`` people."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(people):
        near = [f"p{number - number % partners + other}" for other in range(partners)]
        for clip in range(clips):
            targets = () if clip == 0 else (str(rng.choice(near)),)
            rows.append(
                Row(Path(f"{number}-{clip}.mp4"), int(clip > 0), "FVRA", "swap", f"p{number}", targets)
            )
    return rows


def test_people_who_are_in_one_clip_stay_in_one_split():
    rows = pairs(people=100, clips=5, partners=2)
    kept, left_out = split_by_identity(rows)
    assert not left_out
    assert not shared_identities(kept)
    counts = [sum(row.split == split for row in kept) for split in ("train", "val", "test")]
    assert counts == [pytest.approx(share * 500, abs=10) for share in (0.7, 0.15, 0.15)]
    assert [row.path for row in kept] == [row.path for row in rows]


def test_where_targets_chain_everybody_together_clips_across_splits_are_left_out():
    rows = pairs(people=60, clips=5, partners=60)
    kept, left_out = split_by_identity(rows)
    assert not shared_identities(kept)
    assert 0 < len(left_out) < 0.5 * len(rows)
    assert {row.split for row in kept} == {"train", "val", "test"}
    assert all(row.targets for row in left_out)


def test_splits_depend_on_the_seed_and_not_on_the_order():
    rows = pairs(people=40, clips=3, partners=2)
    once = {row.path: row.split for row in split_by_identity(rows)[0]}
    assert {row.path: row.split for row in split_by_identity(rows[::-1])[0]} == once
    assert {row.path: row.split for row in split_by_identity(rows, seed=1)[0]} != once


# --- the commands ---


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = np.zeros((25, 32, 32, 3), np.uint8)
    write_clip(Clip(frames, np.arange(25) / 25, np.zeros(16_000, np.float32), 16_000, 0.0, 1.0), path)
    return path


def test_check_tells_what_is_there_missing_and_unreadable(video, tmp_path, capsys):
    dataset = fakeavceleb(tmp_path)
    for path in list(dataset.rglob("*.mp4"))[1:]:
        shutil.copy(video, path)  # the first one stays empty
    assert main(["data", "check", str(tmp_path), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert f"{dataset} is FakeAVCeleb: 4 files" in out
    assert "listed, but missing:" in out
    assert "gone.mp4" in out
    assert "listed more than once, and used once:" in out
    assert "32x32, 25 fps" in out
    assert "train" not in out  # its authors have not split it
    assert f"next: avff data manifest {dataset} --layout fakeavceleb" in out


def test_check_cannot_go_on_where_no_file_can_be_read(tmp_path, capsys):
    touch(tmp_path, "real/a.mp4", "fake/b.mp4")
    assert main(["data", "check", str(tmp_path), "--workers", "1"]) == 2
    assert "none of the 2 files" in capsys.readouterr().err


def test_manifest_writes_what_every_other_command_reads(tmp_path, capsys):
    touch(tmp_path, *(f"{kind}/p{person}/{kind}.mp4" for kind in ("real", "fake") for person in range(20)))
    assert main(["data", "manifest", str(tmp_path), "--seed", "3"]) == 0
    rows = read_manifest(tmp_path / "manifest.csv")
    assert len(rows) == 40
    assert not shared_identities(rows)
    assert "with seed 3" in capsys.readouterr().out
    assert main(["data", "manifest", str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert read_layout(tmp_path).layout == "manifest"


def test_every_layout_that_exists_is_named_by_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["data", "check", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in LAYOUTS)


def test_a_folder_of_genuine_clips_must_be_called_one(tmp_path, capsys):
    touch(tmp_path, "anna/a.mp4", "anna/b.mp4", "c.mov")
    with pytest.raises(AVFFError, match="if its 3 videos are all genuine, take --layout genuine"):
        read_layout(tmp_path)
    listing = read_layout(tmp_path, "genuine")
    assert [(row.source, row.label) for row in listing.rows] == [("anna", 0), ("anna", 0), ("c", 0)]
    assert main(["data", "manifest", str(tmp_path), "--layout", "genuine"]) == 0
    assert "split by recordings" in capsys.readouterr().out
    rows = read_manifest(tmp_path / "manifest.csv")
    assert {row.split for row in rows} == {"train", "val", "test"}


@pytest.mark.parametrize("as_lists", [True, False])
def test_a_manifest_in_parquet_reads_as_one_in_csv(as_lists, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    touch(tmp_path, "a.mp4", "b.mp4")
    columns = {
        "path": ["a.mp4", "b.mp4"],
        "label": [0.0, 1.0],  # as pandas writes whole numbers beside a missing one
        "source": ["anna", "ben"],
        "targets": [[], ["carl", "dora"]] if as_lists else ["", "carl;dora"],
        "fake_segments": [[], [[0.5, 1.25]]] if as_lists else [None, "0.500-1.250"],
        "note": ["not ours", "not ours"],
    }
    pq.write_table(pa.table(columns), tmp_path / "manifest.parquet")
    listing = read_layout(tmp_path)
    assert listing.layout == "manifest"
    real, fake = listing.rows
    assert (real.label, real.method, real.targets, real.fake_segments) == (0, "real", (), ())
    assert (fake.label, fake.source, fake.targets) == (1, "ben", ("carl", "dora"))
    assert fake.fake_segments == ((0.5, 1.25),)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"path": ["a.mp4"]}, "row 1: the header lacks the column label"),
        ({"path": ["a.mp4", "../b.mp4"], "label": [0, 1]}, "row 2: path is '../b.mp4', which is not below"),
        ({"path": ["a.mp4"], "label": [2]}, "row 1: label is '2'; expected one of"),
        ({"path": ["a.mp4"], "label": [1], "fake_segments": [[[2.0, 1.0]]]}, r"row 1: fake_segments holds"),
    ],
)
def test_a_wrong_manifest_in_parquet_is_refused_with_its_row(columns, match, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), tmp_path / "manifest.parquet")
    with pytest.raises(AVFFError, match=match):
        read_layout(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"no Parquet")
    with pytest.raises(AVFFError, match="expected a Parquet file"):
        read_layout(tmp_path)


def test_split_keeps_the_manifest_of_before(tmp_path, capsys):
    rows = [replace(row, path=tmp_path / row.path, split="train") for row in pairs(30, 4, 2)]
    touch(tmp_path, *(row.path.name for row in rows))
    write_manifest(rows, tmp_path / "manifest.csv")
    before = (tmp_path / "manifest.csv").read_bytes()
    assert main(["data", "split", str(tmp_path), "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert "with seed 5" in out
    after = read_manifest(tmp_path / "manifest.csv")
    assert not shared_identities(after)
    assert {row.split for row in after} == {"train", "val", "test"}
    assert (tmp_path / "manifest.1.csv").read_bytes() == before
    assert main(["data", "split", str(tmp_path)]) == 0
    assert (tmp_path / "manifest.2.csv").exists()


def test_genuine_clips_of_too_few_people_are_split_by_recording():
    rows = [Row(Path(f"{number}.mp4"), 0, "RVRA", "real", f"p{number % 2}") for number in range(40)]
    split, by = split_sources(rows)
    assert by == "recording"
    assert [row.source for row in split] == [row.source for row in rows]
    assert [sum(row.split == name for row in split) for name in ("train", "val", "test")] == [28, 6, 6]
    assert split_sources([replace(row, source=row.path.stem) for row in rows])[1] == "identity"


def test_a_split_by_file_is_shown_to_leak():
    assert leaks_at_random(pairs(40, 5, 2)).startswith("split by file at random, 38 of 40 people")


def test_check_opens_a_sample_only(video, tmp_path, capsys):
    for kind in ("real", "fake"):
        for number in range(5):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(video, tmp_path / kind / f"{number}.mp4")
    assert main(["data", "check", str(tmp_path), "--workers", "1", "--sample", "3"]) == 0
    shown = capsys.readouterr().out
    assert "10 files" in shown  # those listed
    kinds = [line for line in shown.splitlines() if "32x32" in line]
    assert sum(int(field) for field in kinds[0].split("│")[2:4]) == 3
    assert main(["data", "check", str(tmp_path), "--sample", "0"]) == 2


def streams(path: Path) -> dict[str, list[bytes]]:
    """The packets of each kind of stream."""
    found: dict[str, list[bytes]] = {"video": [], "audio": []}
    with av.open(str(path)) as file:
        for packet in file.demux():
            found[packet.stream.type].append(bytes(packet))
    return found


def keep_only(kind: str, source: Path, target: Path) -> None:
    """A file with one of the streams of another."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as whole, av.open(str(target), "w", format="mp4") as file:
        stream = next(stream for stream in whole.streams if stream.type == kind)
        copy = file.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                file.mux(packet)


def test_voxceleb2_gets_its_sound_and_is_not_encoded_again(video, tmp_path, capsys):
    name = "id00012/21Uxsk56VDQ/00001"
    keep_only("video", video, tmp_path / f"dev/mp4/{name}.mp4")
    keep_only("audio", video, tmp_path / f"dev/aac/{name}.m4a")
    keep_only("video", video, tmp_path / "dev/mp4/id00013/x/00001.mp4")
    assert main(["data", "check", str(tmp_path), "--workers", "1"]) == 2
    shown = capsys.readouterr()
    assert "its sound is separate" in shown.out
    out = tmp_path / "joined"
    assert main(["data", "join", str(tmp_path), "--out", str(out), "--workers", "1"]) == 0
    shown = capsys.readouterr()
    assert "1 videos with sound" in shown.out
    assert "id00013" in shown.err
    assert streams(out / f"dev/mp4/{name}.mp4") == streams(video)
    listing = read_layout(out)
    assert [(row.source, row.split) for row in listing.rows] == [("id00012", "train")]
    assert main(["data", "check", str(out), "--workers", "1"]) == 0

"""Manifests as spreadsheets, other systems and mistakes make them: rows, or one sentence with the line."""

from __future__ import annotations

import csv

import pytest

from avff_lib.data.manifest import Row, read_manifest, write_manifest
from avff_lib.errors import AVFFError


@pytest.fixture
def read(tmp_path):
    """A function that reads a manifest of the given contents."""

    def write_and_read(contents: str | bytes) -> list[Row]:
        data = contents if isinstance(contents, bytes) else contents.encode()
        (tmp_path / "manifest.csv").write_bytes(data)
        return read_manifest(tmp_path / "manifest.csv")

    return write_and_read


def test_a_byte_order_mark_line_ends_of_any_kind_and_other_columns_do_not_matter(read, tmp_path):
    rows = read("\ufeffpath, label ,note,source\r\na.mp4,fake,x,Zoë\r\n\r\nb.mp4, real ,,\r\n")
    assert [(row.path, row.label, row.source) for row in rows] == [
        (tmp_path / "a.mp4", 1, "Zoë"),
        (tmp_path / "b.mp4", 0, "b"),
    ]


def test_media_may_be_links_to_files_elsewhere(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.mp4").write_bytes(b"film")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "file.mp4").symlink_to(elsewhere / "a.mp4")
    (folder / "clips").symlink_to(elsewhere)
    (folder / "manifest.csv").write_text("path,label\nfile.mp4,0\nclips/a.mp4,0\nclips/../file.mp4,0\n")
    rows = read_manifest(folder / "manifest.csv")
    # The names in the folder, not where they lead to.
    assert [row.path for row in rows] == [folder / "file.mp4", folder / "clips/a.mp4", folder / "file.mp4"]
    assert all(row.path.read_bytes() == b"film" for row in rows)
    write_manifest(rows, folder / "again.csv")
    assert read_manifest(folder / "again.csv") == rows
    # The same through a link to the folder itself, and from inside of it.
    (tmp_path / "link").symlink_to(folder)
    rows = read_manifest(tmp_path / "link/manifest.csv")
    write_manifest(rows, tmp_path / "link/again.csv")
    assert read_manifest(tmp_path / "link/again.csv") == rows
    assert rows[0].path == tmp_path / "link/file.mp4"


def test_rows_are_absolute_wherever_the_manifest_was_read_from(read, tmp_path, monkeypatch):
    read("path,label\na.mp4,1\n")
    monkeypatch.chdir(tmp_path)
    (row,) = read_manifest(type(tmp_path)("manifest.csv"))
    assert row.path == tmp_path / "a.mp4"


def test_segments_may_overlap_and_stand_in_any_order(read):
    (row,) = read("path,label,fake_segments\na.mp4,1,2-3.5; 0.25-2.5\n")
    assert row.fake_segments == ((2.0, 3.5), (0.25, 2.5))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("path,label\na.mp4,0\n/etc/passwd,1", "line 3: path is '/etc/passwd', which is not below"),
        ("path,label\nx/../../a.mp4,1", "line 2: path is 'x/../../a.mp4', which is not below"),
        ("path,label\n.,1", "line 2: path is '.', which is not below"),
        ("path,label\n,1", "line 2: path is '', which is not below"),
        ("path,label\na.mp4,1,FVFA", "line 2: 3 fields, but 2 in the header"),
        ("path,label\n\n\na.mp4", "line 4: 1 fields, but 2 in the header"),
        ("path,label\na, b.mp4,1", "quote values that hold a comma"),
        ("path;label\na.mp4;1", "line 1: the header lacks the column label; it must hold path and label"),
        ("path,label,label\na.mp4,1,0", "line 1: the header holds label 2 times"),
        ("path,label\na\0.mp4,1", "line 2: path is 'a\\\\x00.mp4', with a control character"),
        ('path,label\n"a\nb.mp4",1', "line 3: path is 'a\\\\nb.mp4', with a control character"),
        ("path,label\n" + "a" * 200_000 + ",1", "line 2: no CSV (field larger than field limit (131072))"),
        ('path,label\n"a.mp4,1\nb.mp4,1', "line 3: no CSV (unexpected end of data); check its quotation"),
        ("path,label,fake_segments\na.mp4,1,5-2", "line 2: fake_segments holds '5-2'; expected start-end"),
        ("path,label,fake_segments\na.mp4,1,2-2", "'2-2'"),
        ("path,label,fake_segments\na.mp4,1,0-1;nan-3", "'nan-3'"),
        ("path,label,fake_segments\na.mp4,1,1-inf", "'1-inf'"),
        ("path,label,fake_segments\na.mp4,1,-1-2", "'-1-2'"),
        ("path,label,fake_segments\na.mp4,1,1e0-2", "'1e0-2'"),
        ("path,label,fake_segments\na.mp4,1,0-" + "9" * 400, "several joined by ;"),
        ("path,label,fake_segments\na.mp4,0,0-1", "'0-1', but the label is real; expected none"),
        ("path,label\na.mp4,", "label is ''; expected one of 0, 1, real, fake"),
        ("path,label,category\na.mp4,1," + "F" * 5000, "expected one of RVRA"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_with_its_line(read, lines, sentence):
    with pytest.raises(AVFFError) as caught:
        read(lines)
    message = str(caught.value)
    assert sentence.replace("\\\\", "\\") in message
    assert "\n" not in message
    assert "\0" not in message
    assert len(message) < 600


@pytest.mark.parametrize(
    "contents",
    [
        "path,label\nä.mp4,1\n".encode("utf-16"),
        "path,label\nä.mp4,1\n".encode("latin-1"),
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)),
    ],
)
def test_other_encodings_and_no_text_at_all_are_said(read, contents):
    with pytest.raises(AVFFError, match=r"is not text in UTF-8; save it as CSV in UTF-8$"):
        read(contents)


def test_a_folder_in_its_place_is_said(tmp_path):
    with pytest.raises(AVFFError, match="cannot be read"):
        read_manifest(tmp_path)


def test_names_of_every_script_come_back_as_they_were_written(tmp_path):
    rows = [Row(tmp_path / "clips/声, “a” 'b'.mp4", 1, "FVFA", "swap", "Ŝ", group="Ελ, λ")]
    write_manifest(rows, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv") == rows
    with (tmp_path / "manifest.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["path"] == "clips/声, “a” 'b'.mp4"

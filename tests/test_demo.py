"""``avff demo``: the report on an upload, what is left behind, and the page in a real browser."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from browser import Browser
from bs4 import BeautifulSoup

from avff_lib import cli, demo, synth
from avff_lib.inference import predictor
from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.models import Detector
from avff_lib.models.checkpoint import DEFAULT_CHECKPOINT

PATIENCE = 600  # seconds; a busy machine is slow, a hung page is not waited for forever

# The command, in a process that writes down every address that it connects to or looks up.
WATCHED = """
import sys
def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print(event, args[1] if event == "socket.connect" else args[0], file=addresses, flush=True)
addresses = open(sys.argv[1], "w")
sys.addaudithook(note)
from avff_lib.cli import main
sys.exit(main(["demo", "--port", sys.argv[2]]))
"""


@pytest.fixture(scope="module")
def clip() -> Clip:
    return synth.make_clip(synth.plan_corpus(clips=8, identities=6, seed=7)[0])


@pytest.fixture(scope="module")
def files(clip, tmp_path_factory) -> dict[str, Path]:
    """Videos to be scored, and others that cannot be."""
    folder = tmp_path_factory.mktemp("files")
    path = {name: folder / f"{name}.mp4" for name in ("good", "text", "empty", "mute", "silent", "faceless")}
    write_clip(clip, path["good"])
    write_clip(replace(clip, waveform=np.zeros_like(clip.waveform)), path["silent"])
    write_clip(replace(clip, frames=np.full_like(clip.frames, 128)), path["faceless"])
    path["text"].write_text("no video")
    path["empty"].touch()
    with av.open(str(path["good"])) as source, av.open(str(path["mute"]), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.fixture
def upload(files, tmp_path):
    """Name of a file -> a copy of it as Gradio keeps an upload, in a folder of its own."""

    def upload(name: str) -> Path:
        copy = tmp_path / "secret" / files[name].name
        copy.parent.mkdir()
        copy.write_bytes(files[name].read_bytes())
        return copy

    return upload


def text_of(answer: str) -> str:
    return BeautifulSoup(answer, "html.parser").get_text().strip()


# -- reports on uploads --


def test_an_upload_gets_the_report_and_its_numbers_and_is_removed(files, upload, tmp_path):
    shares, path = [], upload("good")
    answer = demo.score_upload(
        str(path), DEFAULT_CHECKPOINT, lambda share, words: shares.append((share, words))
    )
    assert list(tmp_path.iterdir()) == []
    assert shares == sorted(shares)
    assert shares[-1][0] == pytest.approx(1, abs=0.1)
    assert "s scored" in shares[0][1]

    soup = BeautifulSoup(answer, "html.parser")
    page, numbers = (
        base64.b64decode(link["href"].partition("base64,")[2]).decode() for link in soup.select("a[download]")
    )
    assert page == soup.iframe["srcdoc"]
    assert soup.iframe["sandbox"] == ["allow-same-origin"]
    (record,) = json.loads(numbers)
    expected = predictor.predict(files["good"], Detector.from_pretrained(DEFAULT_CHECKPOINT))
    assert record["path"] == "good.mp4"
    assert record["score"] == pytest.approx(expected.score, abs=1e-4)
    assert BeautifulSoup(page, "html.parser").select_one(".word").get_text() == expected.label
    assert "secret" not in page + numbers


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("text", "text.mp4 cannot be read as a media file"),
        ("empty", "empty.mp4 is empty (0 bytes)"),
        ("mute", "mute.mp4 has no sound"),
        ("silent", "silent.mp4 cannot be scored: parts without sound"),
        ("faceless", "faceless.mp4 cannot be scored: parts without a face"),
    ],
)
def test_an_upload_that_cannot_be_scored_gets_a_sentence_and_is_removed(upload, tmp_path, name, sentence):
    answer = demo.score_upload(str(upload(name)), DEFAULT_CHECKPOINT, lambda *_: None)
    assert list(tmp_path.iterdir()) == []
    assert text_of(answer).startswith(sentence)
    assert text_of(answer).count("\n") == 0
    assert 'role="alert"' in answer
    assert "secret" not in answer


def test_no_upload_gets_a_sentence():
    assert "No video was dropped or recorded" in text_of(demo.score_upload(None, DEFAULT_CHECKPOINT, print))


def test_a_name_cannot_become_part_of_the_page(files, tmp_path):
    path = tmp_path / "x" / "<img src=x onerror=alert(1)>'\".mp4"
    path.parent.mkdir()
    path.write_bytes(files["good"].read_bytes())
    soup = BeautifulSoup(demo.score_upload(str(path), DEFAULT_CHECKPOINT, lambda *_: None), "html.parser")
    assert soup.find("img") is None
    assert [set(link.attrs) for link in soup.find_all("a")] == 2 * [{"download", "href"}]
    assert set(soup.iframe.attrs) == {"title", "sandbox", "srcdoc", "onload"}


@pytest.mark.parametrize("honest", [True, False])
def test_a_long_video_is_refused_whatever_its_header_says(upload, monkeypatch, tmp_path, honest):
    monkeypatch.setattr(demo, "MAX_VIDEO_SECONDS", 2)
    if not honest:
        told = replace(demo.probe(upload("good")), duration=0.5)
        monkeypatch.setattr(demo, "probe", lambda path: told)
    path = tmp_path / "secret" / "good.mp4" if not honest else upload("good")
    shown = text_of(demo.score_upload(str(path), DEFAULT_CHECKPOINT, lambda *_: None))
    assert "good.mp4 lasts 3.2 s or longer" in shown
    assert list(tmp_path.iterdir()) == []


def test_an_upload_is_removed_even_if_scoring_it_breaks(upload, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise MemoryError

    monkeypatch.setattr(demo, "analyze_file", broken)
    with pytest.raises(MemoryError):
        demo.score_upload(str(upload("good")), DEFAULT_CHECKPOINT, lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_scoring_stops_when_the_upload_is_gone(upload, monkeypatch):
    def analyze(path, model, *, progress):
        progress(1.0)
        path.unlink()
        progress(2.0)
        pytest.fail("it went on")

    monkeypatch.setattr(demo, "analyze_file", analyze)
    shown = text_of(demo.score_upload(str(upload("good")), DEFAULT_CHECKPOINT, lambda *_: None))
    assert "good.mp4 was removed before it was scored" in shown


# -- the command --


def test_a_port_or_a_detector_that_cannot_be_used_is_refused_in_a_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, sentence in (
            (["--port", str(port)], f"avff: port {port} cannot be used"),
            (["--port", "0"], "avff: the port is 0; expected 1 to 65535"),
            (["--checkpoint", "nowhere"], "avff: "),
        ):
            assert cli.main(["demo", *options]) == 2
            error = capsys.readouterr().err
            assert error.startswith(sentence)
            assert error.count("\n") == 1


class Served:
    """``avff demo`` in a process of its own, with a folder for temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.temporary, self.addresses = folder / "tmp", folder / "addresses"
        self.temporary.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-c", WATCHED, str(self.addresses), str(self.port)]
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.url = f"http://127.0.0.1:{self.port}/"
        assert self.url in self.process.stdout.readline()

    @property
    def files(self) -> list[Path]:
        return [path for path in self.temporary.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.process.kill()


@pytest.fixture(scope="module")
def tab(served) -> Iterator[Browser]:
    browser = Browser()
    browser.open(served.url, width=390)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def camera(clip, tmp_path_factory) -> list[str]:
    """Flags that give a browser a film for its camera, and its sound for its microphone."""
    film, sound = (tmp_path_factory.mktemp("camera") / name for name in ("film.y4m", "sound.wav"))
    height, width = clip.frames.shape[1:3]
    with film.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for rgb in clip.frames:
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            file.write(b"FRAME\n" + frame.to_ndarray().tobytes())
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, clip.sample_rate, 0, "NONE", ""))
        file.writeframes((clip.waveform * 32767).astype("<i2").tobytes())
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",  # nobody is asked for permission
        f"--use-file-for-fake-video-capture={film}",
        f"--use-file-for-fake-audio-capture={sound}",
    ]


def drop(browser: Browser, path: Path) -> None:
    browser.wait_for("!!document.querySelector('input[type=file]')")
    element = browser.send("Runtime.evaluate", expression="document.querySelector('input[type=file]')")
    browser.send("DOM.setFileInputFiles", files=[str(path)], objectId=element["result"]["objectId"])
    browser.wait_for("!!document.querySelector('video[src]')", PATIENCE)


def record(browser: Browser, seconds: float) -> None:
    """Record with the browser's camera; wait for what was recorded, as a busy machine records late."""
    browser.run(
        "{ window.recorded = 0; const start = MediaRecorder.prototype.start;"
        " MediaRecorder.prototype.start = function (slice) { start.call(this, slice);"
        " this.addEventListener('dataavailable', () => window.recorded += slice / 1000) } }"
    )
    press(browser, "[aria-label='Capture from camera']")
    press(browser, "[title='grant webcam access'] button")
    # Gradio shows this button a moment before it holds the camera's stream; a press in between does nothing.
    start, stop = "[aria-label='start recording']", "[title='stop recording']"
    browser.wait_for(
        f"!!document.querySelector(`{stop}`) || void document.querySelector(`{start}`)?.click()", PATIENCE
    )
    browser.wait_for(f"window.recorded >= {seconds}", PATIENCE)
    press(browser, start)  # it is the same button
    browser.wait_for("!!document.querySelector('video[src]')", PATIENCE)


def press(browser: Browser, selector: str) -> None:
    browser.wait_for(f"!!document.querySelector(`{selector}`)", PATIENCE)
    browser.run(f"document.querySelector(`{selector}`).click()")


def score(browser: Browser) -> str:
    """What the page shows for its video, as text: the report's label, the sentence, or what broke."""
    browser.wait_for("!!document.querySelector('#report') && !!document.querySelector('#score')", PATIENCE)
    browser.run("document.querySelector('#report').querySelectorAll('iframe, p').forEach(e => e.remove())")
    press(browser, "#score")
    return browser.wait_for(
        "document.querySelector('#report [role=alert]')?.innerText"
        " || document.querySelector('#report iframe')?.contentDocument?.querySelector('.word')?.innerText"
        " || document.querySelector('#report .error')?.innerText",
        PATIENCE,
    )


def test_a_video_dropped_in_a_browser_gets_its_report_and_is_removed(served, tab, files):
    drop(tab, files["good"])
    label = predictor.predict(files["good"], Detector.from_pretrained(DEFAULT_CHECKPOINT)).label
    assert score(tab) == label.upper()
    tab.wait_for("!document.querySelector('video')")  # ready for the next one
    assert served.files == []
    high, inside, width = tab.run(
        "(() => { const f = document.querySelector('#report iframe'), d = f.contentDocument.documentElement;"
        " return [f.offsetHeight, d.scrollHeight, document.documentElement.scrollWidth] })()"
    )
    assert high >= inside > 1000  # one page to scroll, not a page in a page
    assert width <= 390


def test_a_recording_gets_its_report_and_is_removed(served, camera):
    with closing(Browser(*camera)) as browser:
        browser.open(served.url)
        record(browser, seconds=3)
        (recording,) = served.files
        assert recording.suffix == ".webm"
        assert score(browser) in ("IN SYNC", "OUT OF SYNC", "UNDETERMINED")
        browser.wait_for("!document.querySelector('video[src]')", PATIENCE)
        assert served.files == []


def test_what_cannot_be_scored_gets_a_sentence_in_a_browser(served, tab, files):
    drop(tab, files["text"])
    assert "text.mp4 cannot be read as a media file" in score(tab)
    assert "No video was dropped or recorded" in score(tab)
    assert served.files == []


def test_nothing_reaches_out(served, tab):
    assert tab.requests
    assert [url for url in tab.requests if not url.startswith((served.url, "data:", "blob:"))] == []
    addresses = served.addresses.read_text().splitlines()
    assert [line for line in addresses if "127.0.0.1" not in line and "'localhost'" not in line] == []


def test_when_it_ends_nothing_is_left(served):
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(PATIENCE) == 0
    assert served.files == list(served.temporary.glob("avff*")) == []
    assert "Traceback" not in served.process.stdout.read()

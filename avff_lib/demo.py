"""A page on this machine: a video is dropped or recorded there, judged here, shown as a report, and removed.

Gradio is imported when it is served, since it takes seconds and reads its settings from the environment.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from avff_lib.clip import AVFFError, MediaError
from avff_lib.media.decode import probe
from avff_lib.models import Detector
from avff_lib.predict import CHECKPOINTS, Examination, examine_file, load_detector
from avff_lib.report import Page
from avff_lib.report.charts import clock_time

if TYPE_CHECKING:
    from gradio import Blocks

HOST = "127.0.0.1"
LARGEST = 200  # MiB of one upload
LONGEST = 600  # seconds of video
WAITING = 8  # videos that may wait while one is judged
ABANDONED = 3600  # seconds after which an upload that nobody had judged is removed

INTRODUCTION = f"""# Is this video forged?

Drop or record a video of a person speaking, up to {LONGEST // 60} minutes and {LARGEST} MB. It is judged on
this machine, nothing leaves it, and the video is removed as soon as the report is there.

**The shipped detectors were trained on drawn faces and artificial voices.** What they say of real people
shows how the machinery works; it is no evidence for or against anyone.
"""

# The page runs no scripts, so the sandbox allows none; being of the same origin lets us ask how high it is.
ANSWER = """<p class="downloads">
<a download="{stem}-report.html" href="data:text/html;base64,{page}">Download the report</a>
<a download="{stem}-report.json" href="data:application/json;base64,{numbers}">Download the numbers (JSON)</a>
</p>
<iframe title="Report on {name}" sandbox="allow-same-origin" srcdoc="{shown}"
onload="new ResizeObserver(() => this.style.height = this.contentDocument.body.offsetHeight + 'px')
.observe(this.contentDocument.body)"></iframe>"""

STYLE = """
footer { display: none !important; }
.html-container { padding: 0 !important; }
@media (max-width: 600px) { .main { padding: 1rem .5rem !important; } }
.downloads { display: flex; flex-wrap: wrap; gap: .75rem; margin: 0 0 1rem; }
.downloads a { padding: .5rem 1rem; border: 1px solid var(--border-color-primary); border-radius: .4rem;
  background: var(--button-secondary-background-fill); color: var(--body-text-color); text-decoration: none; }
iframe { display: block; width: 100%; min-height: 30rem; border: 1px solid var(--border-color-primary); }
[role=alert] { padding: .75rem 1rem; border-left: 4px solid #c2410c; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); }
"""

detector = cache(load_detector)


def serve(port: int, checkpoint: str) -> None:
    """Serve the page until it is interrupted; whatever was uploaded is gone afterwards.

    Args:
        port: on 127.0.0.1.
        checkpoint: chosen to begin with: the name of a shipped detector, or the folder of a saved one.

    Raises:
        AVFFError: there is no such detector, or the port cannot be used.
    """
    detector(checkpoint)
    check_port(port)
    for name in ("SIGTERM", "SIGHUP"):  # ended or left alone, it cleans up; killed, it cannot
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="avff-demo-") as folder:
        local = dict.fromkeys(("NO_PROXY", "no_proxy"), HOST)
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", **local)
        import gradio

        page = build(checkpoint)
        page.queue(max_size=WAITING).launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=LARGEST * 2**20,
            run_history=False,  # would keep answers in the browser
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=gradio.themes.Default(
                primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]
            ).set(button_primary_background_fill="*primary_700"),
            css=STYLE,
            _frontend=False,  # no test request, which a busy machine fails: a public link is then asked for
        )
        try:
            print(f"Open http://{HOST}:{port}/ in a browser on this machine. Ctrl+C ends it.", flush=True)
            page.server.thread.join()
        except KeyboardInterrupt:
            pass
        finally:
            page.close(verbose=False)


def check_port(port: int) -> None:
    """Raise an `AVFFError` if nothing can be served at a port of this machine."""
    if not 1 <= port <= 65535:
        raise AVFFError(f"the port is {port}; expected 1 to 65535, as in: avff demo --port 7860")
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        reason = os.strerror(error.errno)
        raise AVFFError(f"port {port} cannot be used ({reason}); name another with --port") from None


def build(checkpoint: str) -> Blocks:
    """The page, not yet served."""
    import gradio

    shipped = sorted(folder.name for folder in CHECKPOINTS.iterdir())

    def answer(
        video: str | None,
        checkpoint: str,
        progress: gradio.Progress = gradio.Progress(),  # noqa: B008
    ) -> tuple[str, None]:
        return answer_upload(video, checkpoint, lambda share, words: progress(share, words)), None

    with gradio.Blocks(title="AVFF: judge a video", delete_cache=(600, ABANDONED)) as page:
        gradio.Markdown(INTRODUCTION)
        video = gradio.Video(label="Video", sources=["upload", "webcam"], include_audio=True, height=360)
        choice = gradio.Radio(list(dict.fromkeys([checkpoint, *shipped])), value=checkpoint, label="Detector")
        button = gradio.Button("Judge", variant="primary", elem_id="judge")
        report = gradio.HTML(apply_default_css=False, js_on_load=None, min_height=80, elem_id="answer")
        button.click(
            answer, [video, choice], [report, video], concurrency_limit=1, show_progress_on=report,
            api_visibility="private",
        )  # fmt: skip
    return page


def answer_upload(path: str | None, checkpoint: str, progress: Callable[[float, str], None]) -> str:
    """Judge an upload and remove it, whatever comes of it.

    Args:
        path: of the upload, in a folder of its own; None if there is none.
        checkpoint: as in `serve`.
        progress: called with the share of the video that was judged, and the same in words.

    Returns:
        HTML: the report in a frame and links to save it, or one sentence; neither names a folder.
    """
    if path is None:
        return _alert(
            "No video was dropped or recorded; choose one, wait until it is shown, then press Judge"
        )
    upload = Path(path)
    try:
        model = detector(checkpoint)
        return report_html(examine_upload(upload, model, progress), model)
    except AVFFError as error:
        return _alert(str(error).replace(path, upload.name))
    finally:
        upload.unlink(missing_ok=True)
        with suppress(OSError):
            upload.parent.rmdir()


def examine_upload(path: Path, model: Detector, progress: Callable[[float, str], None]) -> Examination:
    """`avff_lib.predict.examine_file` for a file of at most `LONGEST` seconds.

    Raises:
        MediaError: the file cannot be judged, or is longer.
    """

    def check(seconds: float) -> None:
        if not path.exists():  # the page has been closed down: stop here
            raise MediaError(f"{path} was removed before it was judged; drop it again")
        if seconds > LONGEST:
            raise MediaError(
                f"{path} lasts {clock_time(seconds)} or longer; give at most {LONGEST // 60} minutes, or run "
                "avff predict on it"
            )

    def watch(seconds: float) -> None:
        check(seconds)  # the header may have promised less
        progress(seconds / max(seconds, length), f"{seconds:.0f} of {length:.0f} s judged")

    length = probe(path).duration
    check(length)
    examined = examine_file(path, model, progress=watch)
    if examined.report.error:
        raise MediaError(examined.report.error)
    return replace(examined, report=replace(examined.report, path=path.name))


def report_html(examined: Examination, model: Detector) -> str:
    """The page about a file in a frame, and links to save it and its numbers."""
    page = Page(model)
    page.add(examined)
    html, name = page.html(), examined.report.path
    return ANSWER.format(
        stem=escape(Path(name).stem),
        name=escape(name),
        shown=escape(html),
        page=_base64(html),
        numbers=_base64(json.dumps([asdict(examined.report)], indent=2)),
    )


def _alert(sentence: str) -> str:
    return f'<p role="alert">{escape(sentence)}.</p>'


def _base64(text: str) -> str:
    return base64.b64encode(text.encode(errors="backslashreplace")).decode()

"""A local web page: a video dropped or recorded there is scored, shown as a report, and removed.

Gradio is imported when the page is served: it takes seconds, and reads its settings from the environment.
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

from avff_lib.errors import AVFFError, MediaError
from avff_lib.inference.predictor import FileAnalysis, analyze_file
from avff_lib.media.decode import probe
from avff_lib.models import Detector
from avff_lib.models.checkpoint import shipped_checkpoints
from avff_lib.report import Page
from avff_lib.report.charts import clock_time

if TYPE_CHECKING:
    from gradio import Blocks

HOST = "127.0.0.1"
MAX_UPLOAD_MIB = 200  # of one upload
MAX_VIDEO_SECONDS = 600
MAX_QUEUE = 8  # videos that may wait while one is scored
UPLOAD_LIFETIME_SECONDS = 3600  # after which an upload that was never scored is removed

INTRODUCTION = f"""# Do lips and voice belong together?

Drop or record a video of a person speaking, up to {MAX_VIDEO_SECONDS // 60} minutes and {MAX_UPLOAD_MIB} MB.
It is scored on this machine, nothing leaves it, and the video is removed as soon as the report is shown. A
video that the browser cannot play can still be scored.

**avff-people** compares lips and voice. Its label is **in sync**, **out of sync** or **undetermined**. A fake
whose voice fits its lips is in sync, and a genuine video that was edited carelessly is not.
**avff-tiny** and **avffmae-tiny** call a clip **real** or **fake**. They were trained on drawn faces and
synthesised voices; for a video of people, expect **undetermined**.

Undetermined means that the detector does not know: the video is unlike the clips that it was calibrated on,
its score is common among clips of both kinds, or too little of it shows a person speaking. No label is
evidence for or against anyone.
"""

# The report runs no scripts, so the sandbox allows none; the same origin lets this page read its height.
REPORT_TEMPLATE = """<p class="downloads">
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

detector = cache(Detector.from_pretrained)


def serve(port: int, checkpoint: str, announce: Callable[[str], None]) -> None:
    """Serve the page until it is interrupted; all uploads are removed afterwards.

    Args:
        port: on 127.0.0.1.
        checkpoint: the detector selected at first, as in `avff_lib.models.base.Detector.from_pretrained`.
        announce: called with the page's address as soon as it is served.

    Raises:
        AVFFError: the detector does not exist, or the port cannot be used.
    """
    detector(checkpoint)
    check_port(port)
    for name in ("SIGTERM", "SIGHUP"):  # clean up on these signals; SIGKILL does not allow it
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="avff-demo-") as folder:
        local = dict.fromkeys(("NO_PROXY", "no_proxy"), HOST)
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", **local)
        import gradio

        page = build_page(checkpoint)
        page.queue(max_size=MAX_QUEUE).launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MAX_UPLOAD_MIB * 2**20,
            run_history=False,  # would keep reports in the browser
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=gradio.themes.Default(
                primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]
            ).set(button_primary_background_fill="*primary_700"),
            css=STYLE,
            _frontend=False,  # no test request: if it fails on a busy machine, Gradio asks for a public link
        )
        try:
            announce(f"http://{HOST}:{port}/")
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
        reason = os.strerror(error.errno or 0)
        raise AVFFError(f"port {port} cannot be used ({reason}); name another with --port") from None


def build_page(checkpoint: str) -> Blocks:
    """The page, not yet served; ``checkpoint`` is selected at first."""
    import gradio

    shipped = list(shipped_checkpoints())

    def score(
        video: str | None,
        checkpoint: str,
        progress: gradio.Progress = gradio.Progress(),  # noqa: B008
    ) -> tuple[str, None]:
        return score_upload(video, checkpoint, lambda share, text: progress(share, text)), None

    with gradio.Blocks(title="AVFF: score a video", delete_cache=(600, UPLOAD_LIFETIME_SECONDS)) as page:
        gradio.Markdown(INTRODUCTION)
        video = gradio.Video(label="Video", sources=["upload", "webcam"], include_audio=True, height=360)
        choice = gradio.Radio(list(dict.fromkeys([checkpoint, *shipped])), value=checkpoint, label="Detector")
        button = gradio.Button("Score", variant="primary", elem_id="score")
        report = gradio.HTML(apply_default_css=False, js_on_load=None, min_height=80, elem_id="report")
        button.click(
            score,
            [video, choice],
            [report, video],
            concurrency_limit=1,
            show_progress_on=report,
            api_visibility="private",
        )
    return page


def score_upload(path: str | None, checkpoint: str, progress: Callable[[float, str], None]) -> str:
    """Score an upload and remove it, even after an error.

    Args:
        path: of the upload, in a folder of its own; None if there is no upload.
        checkpoint: as in `serve`.
        progress: called with the scored share of the video, in [0, 1], and the same in words.

    Returns:
        HTML: the report in a frame with links to save it, or one sentence; neither names a folder.
    """
    if path is None:
        return _alert(
            "No video was dropped or recorded; choose one, wait until it is shown, then press Score"
        )
    upload = Path(path)
    try:
        model = detector(checkpoint)
        return report_html(analyze_upload(upload, model, progress), model)
    except AVFFError as error:
        return _alert(str(error).replace(path, upload.name))
    finally:
        upload.unlink(missing_ok=True)
        with suppress(OSError):
            upload.parent.rmdir()


def analyze_upload(path: Path, model: Detector, progress: Callable[[float, str], None]) -> FileAnalysis:
    """`avff_lib.inference.predictor.analyze_file` for a file of at most `MAX_VIDEO_SECONDS` seconds.

    Raises:
        MediaError: the file cannot be scored, or is longer.
    """

    def check(seconds: float) -> None:
        if not path.exists():  # the server is shutting down
            raise MediaError(f"{path} was removed before it was scored; drop it again")
        if seconds > MAX_VIDEO_SECONDS:
            raise MediaError(
                f"{path} lasts {clock_time(seconds)} or longer; give at most "
                f"{MAX_VIDEO_SECONDS // 60} minutes, or run avff predict on it"
            )

    def report_progress(seconds: float) -> None:
        check(seconds)  # the file may be longer than its header states
        progress(seconds / max(seconds, length), f"{seconds:.0f} of {length:.0f} s scored")

    length = probe(path).duration
    check(length)
    analysis = analyze_file(path, model, progress=report_progress)
    if analysis.prediction.error:
        raise MediaError(analysis.prediction.error)
    return replace(analysis, prediction=replace(analysis.prediction, path=path.name))


def report_html(analysis: FileAnalysis, model: Detector) -> str:
    """The report on a file in a frame, and links to save it and its numbers."""
    page = Page(model)
    page.add(analysis)
    html = page.html()
    name = analysis.prediction.path
    return REPORT_TEMPLATE.format(
        stem=escape(Path(name).stem),
        name=escape(name),
        shown=escape(html),
        page=_base64(html),
        numbers=_base64(json.dumps([asdict(analysis.prediction)], indent=2)),
    )


def _alert(sentence: str) -> str:
    return f'<p role="alert">{escape(sentence)}.</p>'


def _base64(text: str) -> str:
    return base64.b64encode(text.encode(errors="backslashreplace")).decode()

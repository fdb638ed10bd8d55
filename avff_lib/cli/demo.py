"""``avff demo``: a local page that scores videos."""

from __future__ import annotations

from avff_lib.utils.extras import require_extra


def demo(port: int = 7860, checkpoint: str = "avff-people") -> None:
    """Serve a page to this machine's browser: drop or record a video, see the report.

    Args:
        port: the page is at http://127.0.0.1:PORT/.
        checkpoint: detector selected at first: a shipped one's name, a saved one's folder, or a hub id.
    """
    require_extra("avff demo", "gradio")  # first, since its extra also installs the other optional packages
    from avff_lib.demo import serve

    serve(port, checkpoint, _announce)


def _announce(url: str) -> None:
    print(f"Open {url} in a browser on this machine. Ctrl+C ends it.", flush=True)

"""``avff demo``: a local page where videos are judged."""

from __future__ import annotations


def demo(port: int = 7860, checkpoint: str = "avff-tiny") -> None:
    """Serve a page to this machine's browser: drop or record a video, see the report.

    Args:
        port: the page is at http://127.0.0.1:PORT/.
        checkpoint: detector chosen to begin with: the name of a shipped one, or a folder of a saved one.
    """
    from avff_lib.demo import serve

    serve(port, checkpoint)

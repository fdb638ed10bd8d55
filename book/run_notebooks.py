"""Run notebooks from first cell to last and store their outputs: ``python book/run_notebooks.py FILE...``.

Differences between runs that do not come from the book (execution times, kernel versions, the path of a
traceback through installed libraries) are not stored. A notebook is replaced only after a complete run.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from avff_lib.utils.atomic import atomic_write

CELL_TIMEOUT = 900  # seconds
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def run(path: Path) -> float:
    """Run one notebook and store it; return the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    peak: list[int] = []

    def note_memory(cell: Any, cell_index: int, execute_reply: Any) -> None:
        """Called after each cell: the process is gone once the last one has been stored."""
        peak[:] = [peak_memory(client.km.provisioner.pid)]

    client.on_cell_executed = note_memory
    start = time.monotonic()
    client.execute()
    seconds = time.monotonic() - start
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.traceback = shorten(output.traceback)
    # nbclient notes the kernel's own version of Python here.
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["avff"] = {"seconds": round(seconds), "megabytes": peak[0]}
    with atomic_write(path) as partial:
        nbformat.write(notebook, partial)
    return seconds


def peak_memory(pid: int) -> int:
    """The most memory that a process held at a time, in MB; 0 where the system does not tell (Linux does)."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return round(int(found[1]) / 1000) if found else 0


def shorten(traceback: list[str]) -> list[str]:
    """A traceback's head, its frame in the notebook and its last line, without the frames in libraries."""
    return traceback if len(traceback) <= 4 else [*traceback[:3], traceback[-1]]


def main(paths: list[str]) -> int:
    failed = 0
    for path in map(Path, paths):
        print(f"{path} ...", end=" ", flush=True)
        try:
            print(f"{run(path):.0f} s")
        except CellExecutionError as error:
            failed += 1
            print(f"failed, left as it was:\n{error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A folder that a command fills over several runs, and the settings that it was started with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write


def claim_folder(out: Path, name: str, settings: dict[str, Any], kind: str) -> None:
    """Write settings into an empty folder, or check that they match its contents.

    Args:
        out: the folder; created if it does not exist.
        name: of the file in it that holds the settings.
        settings: values that JSON can hold, with lists instead of tuples.
        kind: what the folder holds, as part of a sentence.

    Raises:
        AVFFError: it holds something else, or the same kind with another setting, or cannot be written to.
    """
    note = out / name
    try:
        out.mkdir(parents=True, exist_ok=True)
        if note.is_file():
            existing = json.loads(note.read_text())
            if existing != settings:
                differs = sorted(key for key in settings if existing.get(key) != settings[key])
                raise AVFFError(
                    f"{out} holds a {kind} with another setting of {', '.join(differs)}; "
                    "choose another folder, or delete this one"
                )
        elif any(out.iterdir()):
            raise AVFFError(f"{out} is not empty and holds no {kind}; choose another folder")
        else:
            with atomic_write(note) as partial:
                partial.write_text(json.dumps(settings, indent=2) + "\n")
    except OSError as error:
        raise AVFFError(f"{out} cannot be used ({error.strerror}); choose a folder to write in") from None
    except (json.JSONDecodeError, AttributeError):
        raise AVFFError(f"{note} is damaged; delete the folder and make the {kind} again") from None

"""Loading from the Hugging Face hub; fails within seconds if the hub cannot be reached."""

from __future__ import annotations

import os
from collections.abc import Callable
from http.client import HTTPException
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from huggingface_hub import constants

from avff_lib.errors import AVFFError

HUB_TIMEOUT_SECONDS = 3.0  # for the request that tests whether the hub can be reached

T = TypeVar("T")


def from_hub(name_or_folder: str, load: Callable[..., T]) -> T:
    """Call ``load(local_files_only=...)``, where True means that the hub cannot be reached or is not needed.

    Args:
        name_or_folder: hub id, timm name or local folder; decides the argument, and is named in the error.
        load: the loading function.

    Raises:
        AVFFError: it is not on this machine and cannot be downloaded, or is damaged.
    """
    local = os.path.isdir(name_or_folder) or not _hub_reachable()
    # transformers and timm retry for 20 to 50 s before giving up; offline they look only on the disk.
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or local
    try:
        return load(local_files_only=local)
    except AVFFError:
        raise
    except Exception as error:  # transformers, timm and the hub raise anything from OSError to AssertionError
        reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        raise AVFFError(
            f"{name_or_folder} cannot be loaded here ({reason}); download it on a machine with a network and "
            "name its local folder, or use the preset 'tiny' or a shipped detector, which need no download"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = before


def _hub_reachable() -> bool:
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT_SECONDS).close()
    except HTTPError:  # an error status is also an answer
        return True
    except (OSError, HTTPException):
        return False
    return True

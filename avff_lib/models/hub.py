"""Loading from the Hugging Face hub, which fails within seconds if it cannot be reached."""

from __future__ import annotations

import os
from collections.abc import Callable
from http.client import HTTPException
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from huggingface_hub import constants

from avff_lib.errors import AVFFError

HUB_TIMEOUT_SECONDS = 3.0  # for the one request that tells whether the hub can be reached

T = TypeVar("T")


def from_hub(name_or_folder: str, load: Callable[..., T]) -> T:
    """Call ``load(local_files_only=...)``, where True means that the hub cannot be reached or is not needed.

    Args:
        name_or_folder: hub id, timm name or local folder, for the decision and the error message.
        load: loads it.

    Raises:
        AVFFError: it is not on this machine and cannot be downloaded, or is damaged.
    """
    local = os.path.isdir(name_or_folder) or not _hub_reachable()
    # transformers and timm retry for 20 to 50 s before they give up; offline they only look on the disk.
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
    except HTTPError:  # an error status is an answer, too
        return True
    except (OSError, HTTPException):
        return False
    return True

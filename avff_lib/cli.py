"""The command line ``avff``; its commands are in `avff_lib.commands`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tyro.extras import subcommand_cli_from_dict

from avff_lib.clip import AVFFError
from avff_lib.commands.datasets import audit, prepare, synth
from avff_lib.commands.evaluating import evaluate
from avff_lib.commands.predicting import predict
from avff_lib.commands.robustness import robustness
from avff_lib.commands.showing import demo
from avff_lib.commands.syncing import sync
from avff_lib.commands.training import pretrain, train


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; bad input ends with one sentence on stderr and status 2."""
    for stream in (sys.stdout, sys.stderr):  # a name of a file may hold what the terminal cannot show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    commands = (synth, audit, prepare, pretrain, train, evaluate, robustness, predict, sync, demo)
    try:
        status = subcommand_cli_from_dict(
            {command.__name__: command for command in commands},
            prog="avff",
            description="Audio-visual deepfake detection.",
            args=argv,
        )
    except AVFFError as error:
        print(f"avff: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("avff: interrupted", file=sys.stderr)
        return 130
    return status or 0


if __name__ == "__main__":
    sys.exit(main())

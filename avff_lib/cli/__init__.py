"""The command line ``avff``: a typed function for each command, in a module of its own.

Each function imports what it needs when it is called, so that ``avff --help`` responds at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tyro.extras import SubcommandApp

from avff_lib import __version__
from avff_lib.cli.data import check, join, manifest, split
from avff_lib.cli.datasets import audit, prepare, synth
from avff_lib.cli.demo import demo
from avff_lib.cli.evaluate import evaluate
from avff_lib.cli.forge import forge
from avff_lib.cli.predict import predict
from avff_lib.cli.robustness import robustness
from avff_lib.cli.sync import sync
from avff_lib.cli.train import pretrain, train
from avff_lib.errors import AVFFError
from avff_lib.utils.extras import explain_missing_extra

Command = Callable[..., int | None]
COMMANDS: tuple[Command, ...] = (
    synth,
    forge,
    audit,
    prepare,
    pretrain,
    train,
    evaluate,
    robustness,
    predict,
    sync,
    demo,
)
DATA_COMMANDS: tuple[Command, ...] = (check, manifest, split, join)
DESCRIPTION = "Audio-visual deepfake detection. `avff --version` prints the version."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments, without the program's name; by default those of the process.

    Returns:
        The exit status: 0; 2 after bad input, reported as one sentence on stderr; or 130 after Ctrl+C.
    """
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what the terminal cannot show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"avff {__version__}")
        return 0
    try:
        with explain_missing_extra(" ".join(["avff", *arguments[:1]])):
            status = _app().cli(prog="avff", description=DESCRIPTION, args=arguments)
    except AVFFError as error:
        print(f"avff: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("avff: interrupted", file=sys.stderr)
        return 130
    return status or 0


def _app() -> SubcommandApp:
    app, data = SubcommandApp(), SubcommandApp()
    for group, commands in ((data, DATA_COMMANDS), (app, COMMANDS)):
        for command in commands:
            group.command(command)
    app.command(data, name="data", help="Datasets: contents, manifest and splits.")
    return app

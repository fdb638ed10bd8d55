"""Where the book's numbers come from: each file of results/, its commands, and what reads and tests it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = "book/proof"  # does not name files itself
FOLDERS = re.compile(r"\bdata/[\w-]+|\bFOLDER\b")  # of data, in a command
SCRIPT = re.compile(r"\bpython (\S+\.py)")


@dataclass(frozen=True)
class Source:
    """A text that may read a result.

    Attributes:
        name: its path below the root, without the suffix.
        text: the whole text.
        code: the executed parts: the code cells of a notebook, or a whole test.
    """

    name: str
    text: str
    code: tuple[str, ...] = ()

    def mentions(self, file: str) -> bool:
        """Whether a file is named; a longer name with the same ending does not count."""
        return re.search(rf"(?<![\w-]){re.escape(file)}", self.text) is not None

    def reads(self, stem: str) -> bool:
        """Whether the code reads ``results/STEM.json``, by its name or by an inserted ``name``."""
        code = "\n".join(self.code)
        if re.search(rf"""results["']? ?/ ?["']?{stem}\.json""", code, re.IGNORECASE):
            return True
        helpers = re.findall(r"def (\w+)\(name\b.*\n(?:    .*\n)*?.*\{name\}\.json", code)
        by_name = ("{name}.json", *(f"{helper}(name)" for helper in helpers))
        return any(
            any(f'{helper}("{stem}")' in part for helper in helpers)
            or (
                re.search(rf'for name in \([^)]*"{stem}"', part) is not None
                and any(way in part for way in by_name)
            )
            for part in self.code
        )


@dataclass(frozen=True)
class Proof:
    """Facts about one file of results/.

    Attributes:
        path: of the file.
        commands: commands that reproduce it.
        scripts: scripts that these run, relative to the root.
        seeds: of the training runs that it holds.
        data: description of the corpora and folders that it was measured on.
        readers: names of chapters and pages that read it, or name it or its script.
        cards: names of the shipped detectors whose cards read or name it.
        tests: names of the tests that compare it with something; ``nbval`` if a chapter computes with it.
    """

    path: Path
    commands: tuple[str, ...]
    scripts: tuple[Path, ...]
    seeds: tuple[int, ...]
    data: tuple[str, ...]
    readers: tuple[str, ...]
    cards: tuple[str, ...]
    tests: tuple[str, ...]


def pages(root: Path = ROOT) -> list[Source]:
    """The chapters and the pages of the book."""
    found = []
    for path in sorted(root.glob("notebooks/*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells]
        code = [text for text, cell in zip(texts, cells, strict=True) if cell["cell_type"] == "code"]
        found.append(Source(f"notebooks/{path.stem}", "\n".join(texts), tuple(code)))
    for path in sorted(root.glob("book/*.md")):
        if path.stem != Path(PAGE).name:
            found.append(Source(f"book/{path.stem}", path.read_text(encoding="utf-8")))
    return found


def proofs(root: Path = ROOT) -> list[Proof]:
    """One for each file of results/, by name."""
    read = pages(root)
    cards = [
        Source(path.parent.name, path.read_text(encoding="utf-8"))
        for path in sorted(root.glob("avff_lib/checkpoints/*/README.md"))
    ]
    tests = []
    for path in sorted(root.glob("tests/test_*.py")):
        text = path.read_text(encoding="utf-8")
        tests.append(Source(path.stem, text, (text,)))
    return [_proof(root, path, read, cards, tests) for path in sorted(root.glob("results/*.json"))]


def _proof(root: Path, path: Path, read: list[Source], cards: list[Source], tests: list[Source]) -> Proof:
    content = json.loads(path.read_text(encoding="utf-8"))
    commands = content.get("commands") or [content[name] for name in ("command",) if name in content]
    scripts = {root / name: None for command in commands for name in SCRIPT.findall(command)}
    named = [path.name, *(script.relative_to(root).as_posix() for script in scripts)]
    tables = [script.stem for script in scripts if "\nOPTIONS = Options(" in _text(script)]
    held = [test.name for test in tests if test.reads(path.stem) or _goes_through(test, path.stem, tables)]
    held += ["nbval"] if any(source.reads(path.stem) for source in read) else []
    return Proof(
        path,
        tuple(commands),
        tuple(scripts),
        _seeds(content),
        _data(content, commands, "".join(map(_text, scripts))),
        tuple(source.name for source in read if source.reads(path.stem) or any(map(source.mentions, named))),
        tuple(card.name for card in cards if card.mentions(path.name)),
        tuple(held),
    )


def _goes_through(test: Source, stem: str, tables: list[str]) -> bool:
    """Whether a test is parametrised over files, or over scripts with similar tables."""
    files = 'RESULTS / f"{name}.json"' in test.text and f'"{stem}"' in test.text
    return files or ("OPTIONS.out" in test.text and any(f"import {table}" in test.text for table in tables))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _seeds(content: dict[str, Any]) -> tuple[int, ...]:
    records = [*content.get("records", []), *content.get("runs", [])]
    return tuple(sorted({record["seed"] for record in records if "seed" in record}))


def _data(content: dict[str, Any], commands: list[str], script: str) -> tuple[str, ...]:
    """The data that the file states, with the folders in its commands; else its script's inputs."""
    found = []
    corpus = content.get("corpus", content.get("recordings"))
    if isinstance(corpus, dict):
        drawn = f"{corpus['clips']:,} drawn clips of {corpus['identities']} people"
        found.append(f"{drawn}, level {corpus['level']}, seed {corpus['seed']}")
    elif corpus:
        found.append(corpus)
    named = FOLDERS.findall(" ".join(commands))
    if not found and not named:
        named = FOLDERS.findall(script.partition("from __future__")[0])
    return tuple(dict.fromkeys([*found, *(name for name in named if name not in "".join(found))]))

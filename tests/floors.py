"""The lowest versions that pyproject.toml allows, as constraints for pip: `python tests/floors.py > FILE`.

Each dependency and extra of the package itself, not those of its tests.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def floors() -> Iterator[str]:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        found = re.fullmatch(r"([\w.-]+)>=([\d.]+)(,<[\d.]+)?(;.*)?", requirement)
        if not found:
            raise SystemExit(f"{PYPROJECT}: {requirement!r} has no floor: write NAME>=VERSION")
        name, version, _, marker = found.groups()
        yield f"{name}=={version}{marker or ''}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{floor}\n" for floor in floors())

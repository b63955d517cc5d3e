"""The connector's list of its modules is true."""

from __future__ import annotations

import re
from pathlib import Path

from taktora_trio.connectors import mqtt


def test_each_module_is_listed_and_nothing_else() -> None:
    listed = re.findall(r"^    (\S+) ", mqtt.__doc__ or "", flags=re.MULTILINE)
    folder = Path(mqtt.__file__).parent
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert sorted(listed) == sorted(modules | folders)

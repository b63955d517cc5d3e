"""Where state is kept on disk, and who may read it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from taktora_trio.statefolder import deployment_folder, make_private, state_folder


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/greenhouse:/var/lib/other", "XDG_STATE_HOME": "/x"}, "/var/lib/greenhouse"),
        ({"XDG_STATE_HOME": "/x"}, "/x/taktora-trio"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.local/state/taktora-trio"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/taktora-trio"),
    ],
)
def test_where_it_is(environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert state_folder() == Path(folder)
    assert deployment_folder("greenhouse") == Path(folder) / "deployments" / "greenhouse"
    assert deployment_folder("greenhouse", Path("/data")) == Path("/data")


def test_a_folder_that_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    make_private(tmp_path / "a" / "b")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")} == {0o700}

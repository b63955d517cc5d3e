"""The user's folder in a folder that is everybody's: nothing in it is trusted for its name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from taktora_trio import ConfigError
from taktora_trio.transport import folder, segments
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.folder import generations, new_generation, open_folder, remove_generation, user_folder


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev/shm for this test alone."""
    for module in (folder, segments):
        monkeypatch.setattr(module, "SHM", tmp_path)
    return tmp_path


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def refused(match: str) -> None:
    """One line, that names the folder."""
    with pytest.raises(ConfigError, match=match) as caught:
        Domain("d").holder("owner")
    assert str(user_folder()) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=match), Domain("d").hold("owner"):
        pass


def test_it_is_ours_alone_and_is_kept(shm: Path, umask: int) -> None:
    domain = Domain("d")
    with domain.hold("owner"):
        there = [shm, *shm.rglob("*")][1:]
        assert len(there) == 8  # the user's folder, its locks, a generation with four folders, and a segment
        for path in there:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert [path.name for path in shm.rglob("*")] == [user_folder().name, "locks"]


@pytest.mark.parametrize("target", ["a folder", "nothing"])
def test_a_symbolic_link_is_refused_and_what_it_leads_to_stays(shm: Path, tmp_path: Path, target: str) -> None:
    documents = tmp_path / "documents"
    if target == "a folder":
        documents.mkdir()
        (documents / "thesis").touch()
    user_folder().symlink_to(documents)
    refused("is no folder")
    assert documents.joinpath("thesis").exists() == documents.exists() == (target == "a folder")
    assert user_folder().is_symlink()


def test_a_file_is_refused(shm: Path) -> None:
    user_folder().touch()
    refused("is no folder")


def test_what_others_may_write_to_is_refused(shm: Path) -> None:
    user_folder().mkdir()
    for mode in (0o720, 0o702, 0o777, 0o1777):
        user_folder().chmod(mode)
        refused(rf"can be written to by other users \(mode {mode:04o}\)")


def test_what_others_could_only_see_is_closed_to_them(shm: Path) -> None:
    user_folder().mkdir()
    user_folder().chmod(0o755)  # as an earlier version had it
    assert Domain("d").holder("owner") is None
    assert stat.S_IMODE(user_folder().stat().st_mode) == 0o700


def test_a_folder_of_another_user_is_refused(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    user_folder().mkdir(mode=0o700)
    refused(rf"belongs to another user \(uid {owner}\)")


def test_no_shared_memory_is_said_so(shm: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folder, "SHM", tmp_path / "missing")
    refused("No such file or directory; mount a tmpfs at")


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EACCES, "chmod 1777"), (errno.EROFS, "remount,rw"), (errno.EMFILE, "too few descriptors")],
)
def test_why_it_cannot_be_made_is_said(shm: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    def refuse(path: object, mode: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", refuse)
    refused(advice)


def test_only_names_that_are_made_here_are_removed(shm: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = shm / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    with open_folder() as fd:
        made = new_generation(fd, "d")
        root = made.path
        (root / f"{made.prefix}7.event").symlink_to(outside)  # the link goes, and not what it leads to
        (root / "nodes/123").mkdir()
        (root / f"nodes/123/{made.prefix}node.details").touch()
        (root / "nodes/notes").touch()
        (root / "link").symlink_to(outside)
        (shm / "tkanother_file").touch()
        remove_generation(fd, made)
        assert generations(fd, "d") == []
        gone = generations(fd, "d", gone=True)
        assert len(gone) == 1
    assert sorted(str(path.relative_to(gone[0].path)) for path in gone[0].path.rglob("*")) == [
        "link",
        "nodes",
        "nodes/notes",
    ]
    assert sum("was not made by this library" in record.message for record in caplog.records) == 2
    assert sorted(path.name for path in shm.iterdir()) == ["outside", user_folder().name, "tkanother_file"]
    assert (outside / "kept").exists()


def test_segments_of_others_are_left_alone_and_told_of_once(
    shm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (shm / "tkaaaaaaaa_ours").touch()
    (shm / "tkbbbbbbbb_none").touch()
    (shm / "tkaaaaaaaa_\nlink").symlink_to("/etc/passwd")
    for _ in range(2):
        ours, others = segments.examine(segments.entries("tkaaaaaaaa_"))
        assert [segment.name for segment in ours] == ["tkaaaaaaaa_ours"]
        assert others == ["tkaaaaaaaa_\nlink"]
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert segments.segments("tkaaaaaaaa_") == []
    [told] = [record.getMessage() for record in caplog.records]
    assert told == (
        f"somebody else (uid {owner}) makes files in {shm} that are named as ours are: 'tkaaaaaaaa_\\nlink';"
        " they are left alone"
    )

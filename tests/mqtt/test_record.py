from __future__ import annotations

import stat
from pathlib import Path

import pytest

from taktora_trio.connectors.mqtt.record import SubscriptionRecord


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubscriptionRecord:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return SubscriptionRecord("a client/../\0", "broker.example:1883")


def test_what_was_written_is_read_by_its_client_and_broker_alone(record: SubscriptionRecord) -> None:
    assert record.read() == set()
    record.write(["b/#", "$share/group/a/+"])
    record.write(["b/#", "ä"])
    assert record.read() == {"b/#", "ä"}
    assert SubscriptionRecord("another", "broker.example:1883").read() == set()
    assert SubscriptionRecord("a client/../\0", "broker.example:8883").read() == set()
    assert stat.S_IMODE(record.path.stat().st_mode) == 0o600
    assert list(record.path.parent.iterdir()) == [record.path], "nothing else is left"


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b'{"client_id":"c","broker":"b","filters":["a/#/b"]}', b"x" * 2**21]
)
def test_another_file_is_refused_with_its_name(record: SubscriptionRecord, content: bytes) -> None:
    record.write([])
    record.path.write_bytes(content)
    with pytest.raises(OSError, match=f"{record.path} is damaged: remove it"):
        record.read()


def test_where_nothing_can_be_written(record: SubscriptionRecord, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(NotADirectoryError):
        record.write(["a"])
    with pytest.raises(NotADirectoryError):
        record.read()

"""What is recorded is in an MCAP file, with its schema, and comes out of it as it was sent."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from mcap.reader import make_reader
from mcap.writer import Writer

from taktora_trio import ConfigError, ConnectorError, Deployment, JsonCodec, Metadata, MsgpackCodec, RawCodec
from taktora_trio.cli import parse
from taktora_trio.recorder.follower import Follower, open_follower
from taktora_trio.recorder.layout import FORMAT, METADATA
from taktora_trio.recorder.reading import look_into, messages_of
from taktora_trio.recorder.record import add_channels, record_until
from taktora_trio.recorder.writing import Recording, open_recording
from taktora_trio.runners.this_process.outcome import call
from taktora_trio.transport.domain import Domain
from tests.host.rig import open_channel, writer_of
from tests.patience import PATIENCE
from tests.recorder.test_follower import Backwards, Reading, connector_of
from tests.transport.rig import open_domain


@contextlib.asynccontextmanager
async def recording_to(
    path: Path, domain: Domain, deployment: Deployment | None = None, most_bytes: int | None = None
) -> AsyncIterator[tuple[Follower, Recording]]:
    """Record what is sent in the block."""
    stop = trio.Event()
    with (
        open_follower(domain, deployment=deployment) as follower,
        open_recording(path, {"domain": domain.name}) as recording,
    ):
        add_channels(recording, follower.channels, deployment)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(record_until, stop, follower, recording, most_bytes)
            yield follower, recording
            stop.set()


async def test_another_tool_opens_it_with_schemas_and_plain_values(domain: Domain, tmp_path: Path) -> None:
    connector = connector_of(JsonCodec())
    deployment = Deployment("greenhouse", None, [connector])
    path = tmp_path / "r.mcap"
    async with (
        open_domain(domain, connector) as node,
        writer_of(node, connector) as writer,
        recording_to(path, domain, deployment),
    ):
        await writer.send(Reading(3.5, ("a",)))
        await writer.send(Reading(-1))
    with path.open("rb") as file:
        reader = make_reader(file)
        found = list(reader.iter_messages())
        summary = reader.get_summary()
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == 2
    [(schema, channel, message), _] = found
    assert schema is not None
    described = msgspec.json.decode(schema.data)
    assert channel.topic == "mqtt/out/readings"
    assert channel.metadata["codec"] == "json"
    assert (channel.message_encoding, schema.encoding) == ("json", "jsonschema")
    content = msgspec.json.decode(message.data)
    assert content["value"] == {"celsius": 3.5, "tags": ["a"]}
    assert described["properties"]["value"] == {"$ref": "#/$defs/Reading"}
    assert described["$defs"]["Reading"]["properties"]["celsius"] == {"type": "number"}
    assert message.log_time == message.publish_time > 1.7e18
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("codec", "message_type", "message", "payload", "value"),
    [
        (JsonCodec(), Reading, Reading(1), b'{"celsius":1,"tags":[]}', {"celsius": 1, "tags": []}),
        (MsgpackCodec(), list[int], [1, 2], b"\x92\x01\x02", [1, 2]),
        (RawCodec(), bytes, b"\xff\x00", b"\xff\x00", None),
        (Backwards(), Reading, Reading(2.5), b"5.2", None),
    ],
)
async def test_what_is_read_back_is_the_payload_as_it_was_sent(
    domain: Domain, tmp_path: Path, codec: Any, message_type: Any, message: Any, payload: bytes, value: Any
) -> None:
    path = tmp_path / "r.mcap"
    metadata = Metadata("text/x", "there", 60, (("a", "1"), ("a", "2")))
    async with (
        open_channel(domain, message_type, codec, max_metadata=100) as (writer, _),
        recording_to(path, domain),
    ):
        await writer.send(message, metadata=metadata, correlation_id=b"\xffid")
    [read] = messages_of(path)
    recorded = read.recorded
    assert (recorded.content, recorded.number, recorded.correlation_id) == (payload, 1, b"\xffid")
    assert recorded.sent_metadata == metadata
    assert msgspec.json.decode(recorded.value) == value
    assert (read.channel.connector, read.channel.name, read.channel.direction) == ("mqtt", "c", "out")


async def test_it_ends_when_the_file_is_long_enough_and_is_whole_then(domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "r.mcap"
    async with (
        open_channel(domain, bytes, RawCodec(), max_payload=2**20) as (writer, reader),
        recording_to(path, domain, most_bytes=300_000) as (_, recording),
    ):
        sent = 0
        while recording.size < 300_000:
            await writer.send(os.urandom(100_000))
            await reader.receive()
            sent += 1
            await trio.sleep(0.005)
    assert 0 < look_into(path).messages <= sent


async def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.mcap"
    path.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="is there already"), open_recording(path, {}):
        pass
    assert path.read_bytes() == b"precious"
    with pytest.raises(ConfigError, match="No such file"), open_recording(tmp_path / "no" / "r.mcap", {}):
        pass


async def whole(domain: Domain, path: Path) -> bytes:
    async with open_channel(domain, bytes, RawCodec()) as (writer, _), recording_to(path, domain):
        await writer.send(b"a message")
    return path.read_bytes()  # noqa: ASYNC240 - it is short


async def test_a_recording_that_is_cut_anywhere_is_told_in_one_line(domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "r.mcap"
    content = await whole(domain, path)
    assert look_into(path).messages == 1
    for length in (0, 5, 8, 30, 200, len(content) // 2, len(content) - 9, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ConfigError, match=r"is no MCAP file|is cut off") as raised:
            look_into(path)
        assert "\n" not in str(raised.value)


async def test_a_recording_that_is_damaged_is_told(domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "r.mcap"
    content = await whole(domain, path)
    chunk = content.index(b"zstd")
    for where in range(chunk - 30, chunk + 60):  # a chunk's times and sizes, and what is compressed in it
        path.write_bytes(content[:where] + bytes([content[where] ^ 0xFF]) + content[where + 1 :])
        with pytest.raises(ConfigError, match=r"damaged|can't be read"):
            look_into(path)


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({METADATA: {"format": "99", "version": "7.1"}}, "format 99.*reads format 1.*taktora-trio 7.1"),
        ({"another tool": {}}, "no recording of taktora-trio"),
    ],
)
def test_a_recording_of_another_version_or_of_another_tool_is_told(
    tmp_path: Path, about: dict[str, dict[str, str]], told: str
) -> None:
    path = tmp_path / "r.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        for name, content in about.items():
            writer.add_metadata(name, content)
        writer.finish()  # type: ignore[no-untyped-call]
    assert FORMAT == "1"
    with pytest.raises(ConfigError, match=told):
        look_into(path)


async def test_a_disk_that_is_full_ends_the_recording_with_one_line(domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "r.mcap"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with open_channel(domain, bytes, RawCodec(), max_payload=2**20) as (writer, _):
        with open_follower(domain) as follower:
            await writer.send(os.urandom(600_000))
            stop = trio.Event()
            stop.set()
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            try:
                with (  # noqa: PT012 - it is raised at the end
                    pytest.raises(ConnectorError, match=r"cannot write .*: File too large"),
                    open_recording(path, {}) as recording,
                ):
                    add_channels(recording, follower.channels, None)
                    await record_until(stop, follower, recording)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_domain_that_there_is_not_is_told(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(parse(["record", "--domain", domain.name])) == 3
    assert f"there is no run in domain '{domain.name}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a:b", "c:d", "--domain", "x"], "name one deployment"),
        (["--domain", "x", "--for", "0"], "give more than 0 seconds"),
        (["--domain", "x", "--max-bytes", "0"], "give at least 1"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(parse(["record", *arguments])) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


async def test_the_command_records_what_passes_by_until_it_is_stopped(domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "r.mcap"
    command = [sys.executable, "-m", "taktora_trio", "record", "c", "--domain", domain.name, "-o", str(path)]
    async with open_channel(domain, int) as (writer, reader):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        try:
            with trio.fail_after(PATIENCE):
                while not path.exists():  # noqa: ASYNC110 - another process makes it
                    await trio.sleep(0.01)
                await writer.send(7)
                await reader.receive()
                process.send_signal(signal.SIGINT)
                assert process.stdout is not None
                said = b"".join([part async for part in process.stdout]).decode()
                assert await process.wait() == 0
        finally:
            process.kill()
    assert said == f"{path}: 1 messages of 1 channel (it was stopped)\n"
    assert [read.recorded.content for read in messages_of(path)] == [b"7"]

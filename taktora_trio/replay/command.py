"""The command `taktora-trio replay`: imported when it is asked for. Its help is in `cli`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped
from taktora_trio.recorder.decoding import decoder_of
from taktora_trio.replay.comparing import Comparison, Difference, compare
from taktora_trio.replay.plan import Plan, make_plan
from taktora_trio.replay.playing import How, Played, play
from taktora_trio.runners.command.target import Target
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.loading import load_deployment
from taktora_trio.runners.this_process.outcome import printing_aside, show, show_document
from taktora_trio.testing.backend import Shape

__all__ = ["replay"]

_SHOWN = 10  # differences of a channel
_LENGTH = 300  # characters of a value


def replay(
    file: Annotated[Path, Parameter(help="The recording, as `taktora-trio record` has written it.")],
    target: Target,
    /,
    *channels: Annotated[str, Parameter(help="The channels that count; all by default.")],
    real_time: Annotated[
        bool, Parameter(negative="", help="As it was recorded, instead of on a clock that jumps over pauses.")
    ] = False,
    shape: Annotated[
        Shape,
        Parameter(help="In memory, or as a run with a real peer of its own, which is always in real time."),
    ] = "memory",
    peer: Annotated[
        str | None,
        Parameter(
            name=["--peer", "--broker"],
            help="Where a peer for tests is, such as the URL of a broker or the endpoint of a router, instead of one of"
            " its own.",
        ),
    ] = None,
    ignore: Annotated[
        tuple[str, ...], Parameter(negative="", help="A field that does not count, such as a time; again for another.")
    ] = (),
    setting: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="A setting that the run had, as app.low=12; again for another one."),
    ] = (),
    json: Annotated[bool, Parameter(negative="", help="The comparison as JSON.")] = False,
) -> int:
    """Replay a recording."""
    if peer is not None and shape == "memory":
        raise ConfigError("--peer goes with --shape in-process or --shape split: in memory there is none")
    with printing_aside():
        deployment = load_deployment(target)
        if deployment.app is None:
            raise ConfigError(f"deployment {deployment.name!r} has no app, to which something could be given")
        plan = make_plan(file, deployment, channels)
        how = How(
            target=target,
            clock="real" if real_time or shape != "memory" else "virtual",
            shape=shape,
            broker=peer,
            settings=_settings(setting),
        )
        played = play(plan, deployment, how)
    comparisons = list(_compared(plan, played, deployment, ignore))
    differ = any(one.differences for one in comparisons)
    if json:
        content = {"given": played.given, "ended": played.has_ended, "channels": comparisons}
        show_document(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
    else:
        show("\n".join(_lines(plan, played, comparisons)))
    return 1 if differ else 0


def _settings(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise ConfigError(f"--setting {escaped(one)}: write NAME=VALUE, as app.low=12")
        found[name] = value
    return found


def _compared(plan: Plan, played: Played, deployment: Deployment, ignored: Sequence[str]) -> Iterator[Comparison]:
    for connector in deployment.connectors:
        for channel in connector.channels:
            recorded = plan.expected.get((connector.name, channel.name))
            if channel.direction == "out" and recorded is not None:
                sent = played.sent.get((connector.name, channel.name), [])
                name = f"{connector.name}.{channel.name}"
                yield compare(name, recorded, sent, decoder_of(connector, channel), ignored)


def _lines(plan: Plan, played: Played, comparisons: Sequence[Comparison]) -> Iterator[str]:
    own = f"; {plan.came_back} more it had sent itself" if plan.came_back else ""
    yield f"given to the app: {played.given} of {len(plan.given)} messages, in {plan.seconds:.1f} s{own}"
    if played.has_ended:
        yield "the app has returned before the end"
    for one in comparisons:
        counts = f"{one.same} of {one.recorded} as recorded"
        for kind, word in (("other", "other"), ("missing", "missing"), ("more", "more")):
            if count := sum(difference.kind == kind for difference in one.differences):
                counts += f", {count} {word}"
        end = f" (and {one.more_at_end} behind the end of the recording)" if one.more_at_end else ""
        yield f"{one.channel}: {counts}{end}"
        for difference in one.differences[:_SHOWN]:
            yield from _shown(difference)
        if (more := len(one.differences) - _SHOWN) > 0:
            yield f"  and {more} more differences"
    if not comparisons:
        yield "nothing that the app sends was recorded: there is nothing to compare"


def _shown(one: Difference) -> Iterator[str]:
    at = f"  at {one.at:.3f} s"
    was, now = _value(one.recorded), _value(one.sent)
    if one.kind == "other":
        if one.topic != one.sent_topic:
            was, now = f"{escaped(one.topic)} {was}", f"{escaped(one.sent_topic)} {now}"
        yield f"{at}: recorded {was}"
        yield f"{' ' * len(at)}  sent     {now}"
    elif one.kind == "missing":
        yield f"{at}: not sent {was}"
    else:
        yield f"{at}: sent, and not recorded {now}"


def _value(value: Any) -> str:
    shown = msgspec.json.encode(value, order="deterministic").decode() if not isinstance(value, bytes) else repr(value)
    return escaped(shown, _LENGTH)

"""What a fault is, and the system that it is brought about in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from taktora_trio.chaos.faulty import Instructions
from taktora_trio.chaos.observer import Observer
from taktora_trio.chaos.proxy import Proxy
from taktora_trio.chaos.schedule import Parameters, Ranges
from taktora_trio.chaos.subject import Half, Subject
from taktora_trio.chaos.subscriber import Subscriber
from taktora_trio.health import FailureKind
from taktora_trio.testing.server import Broker

__all__ = ["BrokenPromise", "Fault", "Inject", "System"]


class BrokenPromise(Exception):
    """Something was observed while a fault was brought about that must not be."""


@attrs.define
class System:
    """The deployment under test and all that it depends on."""

    broker: Broker
    proxy: Proxy
    observer: Observer
    subscriber: Subscriber
    instructions: Instructions
    subject: Subject = attrs.field(init=False)
    """The run there is now; the rest outlives it."""


Inject = Callable[[System, Parameters], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Fault:
    """One kind of fault."""

    what: str
    """A few words for people."""
    inject: Inject
    """Brings it about, and heals it where nobody else would."""
    events: str
    """A regular expression for the states that the app sees until it is `Up` again, such as `Down Connecting Up `."""
    replaces: frozenset[Half] = frozenset()
    """The halves that end and come again by it. All others must live on."""
    failures: frozenset[FailureKind] = frozenset()
    """The causes of `Down` that the app must have been told of."""
    one_is_enough: bool = False
    """True if one of these causes is enough: it is chance which of them comes first."""
    exit_code: int | None = None
    """Set where it ends the whole run, with this exit code; the run is then started again."""
    ranges: Ranges = attrs.field(factory=dict)
    """The parameters of `inject`, in seconds where nothing else is said."""
    files_left: int = 0
    """The number of files of the domain that it may leave in /dev/shm until the run ends."""
    of_warm: bool = False
    """True if it is one of a run with --warm."""
    fills_shm: bool = False
    """True if it needs a /dev/shm of its own."""
    in_process: bool = False
    """True if there is such a fault in the in-process shape, too."""

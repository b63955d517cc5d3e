"""Vitals: what a run says of itself, and how any process of the same user reads it without asking anybody.

    vitals.read("greenhouse")              what is known now: `DomainVitals`
    vitals.watch("greenhouse", every=1.0)  again and again, for `async for`
    vitals.rates(before, after)            what went on between two readings
    vitals.domains()                       the domains that there are

model    what is known, as plain values
reading  from the pages and from /proc
merging  what two halves say, as one
rating   rates, of two readings
serving  the task of a half that writes its page, once a second
record   the health of its connectors, and the last changes of it
writing  the page: encoded, made to fit, and written

Each half writes one page, in the domain's folder (`transport/snapshot.py`), once a second. What it writes it counts
anyway, so a message costs nothing for it. A half imports the writing alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taktora_trio.vitals.model import ChannelVitals as ChannelVitals
    from taktora_trio.vitals.model import ConnectorVitals as ConnectorVitals
    from taktora_trio.vitals.model import DomainVitals as DomainVitals
    from taktora_trio.vitals.model import HalfVitals as HalfVitals
    from taktora_trio.vitals.model import HealthChange as HealthChange
    from taktora_trio.vitals.rating import ChannelRates as ChannelRates
    from taktora_trio.vitals.rating import HalfRates as HalfRates
    from taktora_trio.vitals.rating import Rates as Rates
    from taktora_trio.vitals.rating import rates as rates
    from taktora_trio.vitals.reading import domains as domains
    from taktora_trio.vitals.reading import read as read
    from taktora_trio.vitals.reading import watch as watch

_WHERE = {
    "model": ("ChannelVitals", "ConnectorVitals", "DomainVitals", "HalfVitals", "HealthChange"),
    "rating": ("ChannelRates", "HalfRates", "Rates", "rates"),
    "reading": ("domains", "read", "watch"),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}
__all__ = [
    "ChannelRates",
    "ChannelVitals",
    "ConnectorVitals",
    "DomainVitals",
    "HalfRates",
    "HalfVitals",
    "HealthChange",
    "Rates",
    "domains",
    "rates",
    "read",
    "watch",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

"""Whether the code on the disk fits what runs: looked at before a half of it is replaced by that."""

from __future__ import annotations

from taktora_trio.connectors.plan import specs_of
from taktora_trio.errors import ServiceMismatch
from taktora_trio.runners.deployment import Deployment
from taktora_trio.transport.cursor import check_cursors
from taktora_trio.transport.domain import Domain

__all__ = ["check_fits"]


def check_fits(deployment: Deployment, domain: Domain) -> None:
    """Raise `ServiceMismatch` if a half of this deployment could not join the domain as it is.

    A domain that nobody owns is left to whoever asks for something there.
    """
    if not domain.is_ready():
        return
    for spec in specs_of(deployment.connectors):
        try:
            check_cursors(domain.present().path / "cursors", spec)
        except ServiceMismatch as exc:
            raise ServiceMismatch(f"the new code does not fit the run, which goes on as it is: {exc}") from None

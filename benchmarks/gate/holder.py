"""Tells which process is the gateway of a domain: one line in, one process id out.

python -m benchmarks.gate.holder DOMAIN

Run with the library of the tree whose domain it is, since the way in which roles are held is the library's own affair.
"""

from __future__ import annotations

import sys

from taktora_trio.transport.domain import Domain

__all__: list[str] = []

if __name__ == "__main__":
    domain = Domain(sys.argv[1])
    for _ in sys.stdin:
        sys.stdout.write(f"{domain.holder('gateway') or 0}\n")  # at once, whatever the buffering
        sys.stdout.flush()
    domain.forget()

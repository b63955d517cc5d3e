"""Hashes, by CPython's own code.

`hashlib` loads OpenSSL, which takes 4 MB and 3 ms of each process, for functions that the interpreter has itself. (The
standard library's `random` goes past it, too.) What a Python has not itself comes from `hashlib`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b, sha256
else:
    try:
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    try:
        from _sha2 import sha256  # since Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:
            from hashlib import sha256

__all__ = ["blake2b", "sha256"]

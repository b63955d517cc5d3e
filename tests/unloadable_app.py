"""A deployment whose module can't be loaded where the gateway runs, as if a library were missing there."""

from __future__ import annotations

import sys

from taktora_trio import Deployment
from tests.revivable_apps import QUICK, SEEN, FailsMeanwhile, go_on

if sys.argv[1:2] == ["gateway"]:
    raise ImportError("libprotocol.so.1: no such file")

unloadable = Deployment("unloadable", go_on, [FailsMeanwhile([SEEN])], gateway_policy=QUICK)

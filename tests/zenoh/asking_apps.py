"""The apps of `tests/deployment/asking_apps.py`, over Zenoh."""

from __future__ import annotations

from functools import partial

from taktora_trio import Deployment, Exchange, ZenohConnector, ZenohOptions, ZenohRouting
from tests.deployment.asking_apps import POLICY, Done, Work, ask, respond

WORK = Exchange("work", Work, Done, ZenohRouting("asking/work"), window=200)
OPTIONS = ZenohOptions(max_inflight=200)
_ASKS = ZenohConnector(WORK.for_requester, options=OPTIONS)
_ANSWERS = ZenohConnector(WORK.for_responder, options=OPTIONS)
requester = Deployment("requester", partial(ask, exchange=WORK), [_ASKS], gateway_policy=POLICY, plugin_policy=POLICY)
responder = Deployment(
    "responder", partial(respond, exchange=WORK), [_ANSWERS], gateway_policy=POLICY, plugin_policy=POLICY
)

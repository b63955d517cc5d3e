"""A hundred killed gateways, then restarted brokers, under load in both directions: `make soak` (about six minutes).

Then some crash points of some cases, other ones each day.

python -m tests.deployment.soak [--kills 100] [--restarts 15] [--session native] [--seed 1] [--crash-seed N]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path

import trio

from taktora_trio.transport.domain import Domain
from tests.brokers.sessions import SESSIONS, Kind
from tests.crashpoints.__main__ import run, seed_of_today
from tests.crashpoints.attack import Attack
from tests.crashpoints.case import CASES
from tests.deployment.lossless import UnderFire, open_under_fire
from tests.deployment.lossless_apps import Plan
from tests.mosquitto import Mosquitto, open_mosquitto

_CASES, _POINTS = 6, 15


async def _soak(session: Kind, kills: int, restarts: int, seed: int) -> bool:
    chance = random.Random(seed)
    print(f"session {session}, seed {seed}")
    lossless = True
    for qos in range(1, session.lasting_qos + 1):
        rate = session.pace / qos
        with tempfile.TemporaryDirectory() as folder:
            async with open_mosquitto(Path(folder), ["persistence true", f"persistence_location {folder}/"]) as broker:
                domain = Domain(f"soak-{uuid.uuid4().hex[:8]}")
                plan = Plan(out=(qos,), into=(qos,), rate=rate)
                began = time.monotonic()
                async with open_under_fire(session, plan, broker, domain) as fire:
                    await fire.during(_faults(fire, broker, kills // qos, restarts // qos, chance))
                    out, into = await fire.finish(120)
                seconds = time.monotonic() - began
                domain.forget()
        print(
            f"QoS {qos}, {rate:g} messages/s each way, {kills // qos} kills, {restarts // qos} broker restarts,",
            end=" ",
        )
        print(f"{seconds:.0f} s\n  out: {out[qos]}\n  in:  {into[qos]}", flush=True)
        lossless = lossless and out[qos].is_lossless and into[qos].is_lossless
    return lossless


async def _faults(fire: UnderFire, broker: Mosquitto, kills: int, restarts: int, chance: random.Random) -> None:
    await fire.kill_gateways(kills, chance)
    await fire.restart_broker(broker, restarts, chance)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=15)
    parser.add_argument("--session", choices=[kind.name for kind in SESSIONS], default=SESSIONS[0].name)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crash-seed", type=int, default=seed_of_today(), help="of the crash points")
    told = parser.parse_args()
    [session] = [kind for kind in SESSIONS if kind.name == told.session]
    lossless = trio.run(_soak, session, told.kills, told.restarts, told.seed)
    print(f"crash points, seed {told.crash_seed}")
    cases = random.Random(told.crash_seed).sample(CASES, _CASES)
    results = trio.run(run, [Attack(case, _POINTS, told.crash_seed) for case in cases], 2)
    return 0 if lossless and all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

"""A gateway that the kernel kills for want of memory is started again, and the app goes on (`OOMPolicy=continue`)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.operate.systemd.full_machine import run_in_full_machine

LIMIT = 600  # seconds: the machine is emulated, since not every machine that says it has KVM lets one start


@pytest.mark.timeout(LIMIT + 120)
def test_the_app_survives_its_gateways_end_by_the_kernel(tmp_path: Path) -> None:
    left = float(os.environ.get("OPERATE_UNTIL", "inf")) - time.time()
    if left < LIMIT / 4:
        pytest.skip(f"an emulated machine takes {LIMIT / 4:g} s and more, and fewer are left of OPERATE_SECONDS")
    found = run_in_full_machine(tmp_path, Path(__file__).with_name("out_of_memory.sh"), min(LIMIT, left))
    assert found["policy"] == "continue"
    assert int(found["oom_kills"]) >= 1
    assert int(found["told_by_systemd"]) >= 1
    assert int(found["gateway_killed"]) == 1
    same = {name: found.get(name) for name in ("supervisor", "plugin", "gateway", "state")}
    assert same == {"supervisor": "same", "plugin": "same", "gateway": "another", "state": "active"}
    assert int(found["received"]) == int(found["last"]) >= int(found["sent"]), "lost"

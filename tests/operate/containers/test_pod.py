"""The pod of the manifest, by podman: its rights, its probes, a half killed or hanging, an upgrade, the stop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operate.containers.ear import PASSWORD, Ear, open_broker, open_ear
from tests.operate.containers.image import IMAGE, NEXT
from tests.operate.containers.machine import Podman
from tests.operate.containers.manifest import HALVES, POD, Playing, documents
from tests.patience import PATIENCE

[READY] = [
    each["readinessProbe"]["exec"]["command"]
    for each in documents()["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    if "readinessProbe" in each
]


pytestmark = pytest.mark.timeout(400)  # the image is made once, which takes the first of them a while


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    with open_broker(tmp_path) as port:
        yield port


@pytest.fixture
def pod(podman: Podman, broker: int) -> Iterator[Playing]:
    playing = Playing(podman, f"mqtt://greenhouse@127.0.0.1:{broker}", PASSWORD)
    try:
        yield playing
    finally:
        podman.attempt("podman", "pod", "rm", "--force", "--time=0", POD)
        podman.attempt("podman", "volume", "rm", f"state-{POD}")


def test_a_day_of_the_pod(pod: Playing, broker: int) -> None:
    with open_ear(broker) as ear:
        pod.start(IMAGE)
        ear.until_health(b"Up")
        assert f"/{POD}/" in ear.topic
        ear.until_more()
        for half in HALVES:
            _has_no_rights(pod, half)
        podman = pod.podman  # the halves say once a second how they are
        podman.until(lambda: podman.attempt("podman", "exec", f"{POD}-gateway", *READY).returncode == 0)
        _is_started_again_when_killed(pod, ear)
        _is_started_again_when_it_hangs(pod, ear)
        _is_upgraded(pod, ear)
        assert pod.stop() == {"plugin": 0, "gateway": 0}, pod.logs
        _nothing_is_lost(pod, ear)
        assert list(pod.shm.iterdir()) == []


def _has_no_rights(pod: Playing, half: str) -> None:
    status = dict(
        line.split(":", 1) for line in pod.execute(half, "cat", "/proc/self/status").splitlines() if ":" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert {status[each].strip() for each in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    mounts = {line.split()[1]: line.split() for line in pod.execute(half, "cat", "/proc/self/mounts").splitlines()}
    assert mounts["/"][3].startswith("ro,")
    assert mounts["/dev/shm"][2] == "tmpfs"
    assert "size=131072k" in mounts["/dev/shm"][3]
    assert pod.inspect(half, "{{.HostConfig.Memory}}") == str(256 * 2**20)
    assert PASSWORD not in pod.podman("pod", "inspect", POD) + pod.inspect(half, "{{json .}}")


def _is_started_again_when_killed(pod: Playing, ear: Ear) -> None:
    for half in HALVES:
        before = _pids(pod)
        pod.podman.run("kill", "-KILL", str(before[half]))  # `podman kill` would mean that it is not wanted any more
        ear.order(f"after the {half} was killed")
        ear.until_done(f"after the {half} was killed by 1")
        ear.until_more()
        after = _pids(pod)
        assert {each for each in HALVES if before[each] != after[each]} == {half}


def _is_started_again_when_it_hangs(pod: Playing, ear: Ear) -> None:
    """Each look is one of the manifest's probe. A kubelet looks every `periodSeconds`, podman by a timer of systemd."""
    before = _pids(pod)
    pod.podman.run("kill", "-STOP", str(before["gateway"]))

    def is_another_after_a_look() -> bool:
        pod.podman.attempt("podman", "healthcheck", "run", f"{POD}-gateway")
        return _pids(pod)["gateway"] != before["gateway"]

    pod.podman.until(is_another_after_a_look, 2 * PATIENCE)
    pod.podman("healthcheck", "run", f"{POD}-plugin")
    ear.order("after the gateway hung")
    ear.until_done("after the gateway hung by 1")
    assert _pids(pod)["plugin"] == before["plugin"]


def _is_upgraded(pod: Playing, ear: Ear) -> None:
    """A pod is replaced by one of the same name, with the volume of the one before."""
    assert pod.stop() == {"plugin": 0, "gateway": 0}, pod.logs
    ear.until_health(b"Down")
    _nothing_is_lost(pod, ear)
    ear.order("while nobody was there")
    pod.start(NEXT)
    ear.until_done("while nobody was there by 2")


def _nothing_is_lost(pod: Playing, ear: Ear) -> None:
    """The last app has said how much it has sent, and all of it was heard, in order."""
    sent = re.findall(r"^sent (\d+)", pod.logs["plugin"], re.MULTILINE)[-1]
    ear.until(lambda: ear.numbers[-1] == int(sent) - 1, f"the last of {sent} numbers came")
    begun = len(ear.numbers) - 1 - ear.numbers[::-1].index(0)
    assert list(dict.fromkeys(ear.numbers[begun:])) == list(range(int(sent)))


def _pids(pod: Playing) -> dict[str, int]:
    return {half: int(pod.inspect(half, "{{.State.Pid}}")) for half in HALVES}

"""The manifest that operators get, made into what podman can play: what a cluster's controllers would make of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.command import ROOT
from tests.operate.containers.machine import Podman

__all__ = ["HALVES", "MANIFEST", "POD", "Playing", "documents"]

MANIFEST = ROOT / "supervisors/kubernetes/greenhouse.yaml"
POD = "greenhouse-0"
HALVES = "plugin", "gateway"
_BROKER = "mqtts://greenhouse@broker.example:8883"


def documents() -> dict[str, dict[str, Any]]:
    """Return the manifest's documents by their kinds."""
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}


class Playing:
    """The pod of the StatefulSet, played by podman as often as one likes, with the same volumes."""

    def __init__(self, podman: Podman, broker: str, password: str) -> None:
        self.podman = podman
        self._shm = podman.folder / "shm"
        self._file = podman.folder / "pod.yaml"
        kinds = documents()
        self._spec = kinds["StatefulSet"]["spec"]
        config = kinds["ConfigMap"]["data"]["taktora.toml"]
        assert _BROKER in config
        # As ConfigMaps both: podman 4.3 plays a Secret without decoding it.
        self._texts = {
            "config": {"taktora.toml": config.replace(_BROKER, broker)},
            "secrets": dict.fromkeys(kinds["Secret"]["stringData"], password),
        }

    @property
    def shm(self) -> Path:
        return self._shm

    def start(self, image: str) -> None:
        """Have the pod of this image run. The memory volume is new, as it is for each pod; the claim is kept."""
        self._make_memory()
        pod = self._pod(image)
        maps = [_of("ConfigMap", name, data=data) for name, data in self._texts.items()]
        claims = [
            _of("PersistentVolumeClaim", f"{each['metadata']['name']}-{POD}", spec=each["spec"])
            for each in self._spec["volumeClaimTemplates"]
        ]
        there = self.podman("volume", "ls", "--quiet").split()
        claims = [each for each in claims if each["metadata"]["name"] not in there]
        self._file.write_text(yaml.safe_dump_all([*maps, *claims, pod]))
        self.podman("kube", "play", "--network=host", str(self._file))
        # Podman ends process 1 of a pod as soon as it takes the other containers for ended, and with it those that are
        # not. A kubelet ends it last.
        self.podman("run", "--detach", f"--pod={POD}", f"--name={POD}-keeper", image, "sleep", "infinity")

    def stop(self) -> dict[str, int]:
        """Stop both, as a kubelet does, and remove the pod; return the containers' exit codes.

        The gateway is told first, which is the worst that can happen where both are told at once.
        """
        grace = self._spec["template"]["spec"]["terminationGracePeriodSeconds"]
        stop = [("podman", "stop", f"--time={grace}", f"{POD}-{half}") for half in HALVES]
        with subprocess.Popen(self.podman.inside(*stop[1]), env=self.podman.environment) as told:
            self.podman.until(lambda: "plugin-goes-first" in self.log("gateway"))
            self.podman.run(*stop[0])
            assert told.wait(grace) == 0
        codes = {half: int(self.inspect(half, "{{.State.ExitCode}}")) for half in HALVES}
        self.logs = {half: self.log(half) for half in HALVES}
        self.podman("pod", "rm", "--force", POD)
        return codes

    def log(self, half: str) -> str:
        ended = self.podman.attempt("podman", "logs", f"{POD}-{half}")
        return ended.stdout + ended.stderr

    def inspect(self, half: str, what: str) -> str:
        return self.podman("container", "inspect", "--format", what, f"{POD}-{half}")

    def execute(self, half: str, *words: str) -> str:
        return self.podman("exec", f"{POD}-{half}", *words)

    def _make_memory(self) -> None:
        """Make the memory volume as a kubelet does, which podman 4.3 makes on disk, and for root alone."""
        [limit] = [each["emptyDir"]["sizeLimit"] for each in self._volumes() if each["name"] == "shm"]
        group = self._spec["template"]["spec"]["securityContext"]["fsGroup"]
        if self._shm.exists():
            self.podman.attempt("umount", str(self._shm))
        self._shm.mkdir(exist_ok=True)
        assert limit.endswith("Mi")
        options = f"size={limit.removesuffix('i')},mode=2777,gid={group}"
        self.podman.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._shm))

    def _volumes(self) -> list[dict[str, Any]]:
        volumes: list[dict[str, Any]] = self._spec["template"]["spec"]["volumes"]
        return volumes

    def _pod(self, image: str) -> dict[str, Any]:
        spec = dict(self._spec["template"]["spec"])
        spec["volumes"] = [
            {"name": "shm", "hostPath": {"path": str(self._shm), "type": "Directory"}},
            *({"name": name, "configMap": {"name": name}} for name in self._texts),
            *(
                {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{POD}"}}
                for name in (each["metadata"]["name"] for each in self._spec["volumeClaimTemplates"])
            ),
        ]
        assert {each["name"] for each in spec["volumes"]} >= {each["name"] for each in self._volumes()}
        spec["containers"] = [{**each, "image": image} for each in spec["containers"]]
        return _of("Pod", POD, spec=spec)


def _of(kind: str, name: str, **rest: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **rest}

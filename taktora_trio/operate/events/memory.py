"""Events of shared memory."""

from __future__ import annotations

from collections.abc import Mapping

from taktora_trio.operate.events.event import Event

__all__ = ["MEMORY"]

_REPORT = "Report it. A program of the same user may have written there."

MEMORY: Mapping[str, Event] = {
    "memory-full": Event(
        "error", "`/dev/shm` is full. The gateway waits for room.", "Enlarge it: `taktora-trio plan`."
    ),
    "memory-foreign": Event(
        "warning", "Another user makes files in `/dev/shm` that are named as ours are.", "See who that is."
    ),
    "folder-foreign": Event(
        "warning", "A folder was not made by this package, and is left there.", "Remove it if it is yours."
    ),
    "leftovers-removed": Event("info", "Files of a killed run were removed."),
    "halves-connected": Event("info", "The two halves are connected."),
    "halves-unconnected": Event(
        "error",
        "The two halves can't be connected, for example without a free descriptor. It is tried again.",
        "See what is lacking: descriptors (`LimitNOFILE=`), memory.",
    ),
    "vitals-unwritten": Event(
        "warning",
        "The page of a half's figures can't be made, so nobody sees them from outside. It is tried again.",
        "See the reason: `/dev/shm` may be full.",
    ),
    "opening-beside": Event("warning", "Another process stands still while it opens its half, and is not waited for."),
    "cursor-renumbered": Event("error", "A cursor has lost its numbering, and begins anew.", _REPORT),
    "cursor-impossible": Event("error", "A counter in shared memory says what can't be. It is not believed.", _REPORT),
    "ring-nonsense": Event("error", "A ring in shared memory has what can't be. It is not read.", _REPORT),
    "messages-overwritten": Event("error", "Messages were written over before they were read.", _REPORT),
}

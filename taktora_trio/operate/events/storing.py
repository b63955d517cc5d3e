"""Events of the store, and of dead letters."""

from __future__ import annotations

from collections.abc import Mapping

from taktora_trio.operate.events.event import Event

__all__ = ["STORING"]

STORING: Mapping[str, Event] = {
    "store-goes-on": Event("info", "The store has messages of an earlier run, which go out now."),
    "store-left": Event("info", "At a stop, messages stay in the store for the next gateway."),
    "store-remark": Event(
        "warning", "Something is to be said of the store: how full it is, or what is wrong with it.", "See the line."
    ),
    "store-well": Event("info", "The store is well again."),
    "store-unusable": Event(
        "error",
        "The store can't be used now. Messages go on from memory; it is tried again.",
        "Look at the disk: full, read-only, rights, owner.",
    ),
    "store-write-failed": Event("warning", "A write to the store has failed. It is tried again.", "Look at the disk."),
    "store-written-again": Event("info", "The store can be written again."),
    "store-damaged": Event(
        "error",
        "Part of the store can't be read. It was renamed, and nothing was deleted.",
        "Look at the disk. Keep the renamed file if its messages matter.",
    ),
    "store-lost": Event("warning", "At a stop, messages were not stored.", "Look at the disk."),
    "store-dropped": Event(
        "error", "The store is full, and messages were dropped, as its policy says.", "Enlarge it, or mend the outage."
    ),
    "store-orphaned": Event(
        "warning",
        "The store has messages of a channel that is not stored any more. They stay there.",
        "Declare the channel again to send them, or remove the store's folder.",
    ),
    "store-not-compacted": Event(
        "warning", "What is settled can't be removed from the disk yet.", "Look at the disk if it comes again."
    ),
    "store-numbering": Event("debug", "The numbers that a stored channel goes on with."),
    "store-unreadable-now": Event(
        "error", "Stored messages can't be read now. It is tried again.", "Look at the disk."
    ),
    "stored-unreadable": Event(
        "error", "A stored message is not as it should be, and was left out.", "Look at the disk."
    ),
    "inbound-stored": Event("info", "At a stop, stored inbound messages wait for the next run."),
    "dead-letter": Event(
        "error",
        "Messages went to the dead letters, since the app could not get done with them.",
        "`taktora-trio dead-letters list` and `show`; mend the app; then `dead-letters send`.",
    ),
    "dead-letter-discarded": Event(
        "error", "Dead letters were discarded, since the disk takes nothing.", "Look at the disk."
    ),
    "dead-letters-full": Event(
        "error",
        "There are more dead letters than `max_dead_letters`: the oldest were discarded.",
        "Look after them: `taktora-trio dead-letters`.",
    ),
    "dead-letters-damaged": Event(
        "error", "The file of the dead letters was damaged: it was renamed, and a new one begun.", "Look at the disk."
    ),
    "dead-letters-unwritable": Event(
        "error", "No dead letter can be written. The messages are not acknowledged meanwhile.", "Look at the disk."
    ),
    "dead-letters-stuck": Event("error", "Dead letters can't be sent again now.", "See the reason."),
    "dead-letter-sent": Event("info", "Dead letters were given to the app again, as somebody asked."),
    "dead-letter-done": Event("info", "The app is done with dead letters that were sent again."),
}

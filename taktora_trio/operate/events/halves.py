"""Events of the halves: their processes, their supervision, and what operators ask of them."""

from __future__ import annotations

from collections.abc import Mapping

from taktora_trio.operate.events.event import Event

__all__ = ["HALVES"]

HALVES: Mapping[str, Event] = {
    "endpoint": Event("info", "Probes and metrics are served at an address, and a web page where it is wanted."),
    "flight-written": Event(
        "warning",
        "What went on before a connector was Down, or the plugin has failed, is in the file that the line names.",
        "Look into it: docs/how-to/record-and-replay.md.",
    ),
    "flight-not-written": Event(
        "warning", "The flight recorder could write no file: the line says why.", "Make room on the disk."
    ),
    "flight-off": Event(
        "warning", "There is no memory for the flight recorder, and the half goes without.", "Make room in /dev/shm."
    ),
    "process-started": Event("info", "A half's process was started."),
    "process-stopped": Event("info", "A half's process has stopped, as it was told to."),
    "process-stop-forced": Event(
        "warning",
        "A half did not stop within its `stop_grace`, and was killed.",
        "See what it was at. Give the stop more time if it had work to do.",
    ),
    "process-hangs": Event(
        "error",
        "A half gives no sign of life, and is killed and started again. Where it was is in the lines before.",
        "Look for a call that blocks the loop.",
    ),
    "process-leftovers-killed": Event(
        "warning", "A half has left processes behind, which were killed.", "Let the app end what it starts."
    ),
    "warm-start-renewed": Event("info", "The code has changed on the disk, and the next gateway runs the new one."),
    "fence-lacking": Event(
        "warning",
        "A part of a half's fence could not be put up. The run goes on without it.",
        "The line says what is missing, such as LimitRTPRIO= of a unit.",
    ),
    "fence-by-process": Event(
        "info",
        "No control group can be made here, so each process of the gateway gets the limit of memory by itself.",
        "For one limit of all, give the unit `Delegate=yes`.",
    ),
    "ended": Event("info", "A half has ended as it may."),
    "restarting": Event(
        "warning",
        "A half has ended or crashed, and starts again after a delay. Error where there is an exception.",
        "See why it ended.",
    ),
    "given-up": Event(
        "critical",
        "A half has failed too often, and is not started again.",
        "Mend the cause; then `taktora-trio revive` for a gateway. A run whose plugin is given up ends.",
    ),
    "stop-crashed": Event("error", "A half has crashed while it was being stopped.", "See the traceback."),
    "revived": Event("info", "What was given up starts again, as somebody asked."),
    "revive-needless": Event("info", "Somebody asked to revive what was not given up."),
    "native-inside": Event(
        "info",
        "In one process, a connector brings native code with threads of its own, whose crash would end the app, too.",
        "Use the split shape where the app must not stop.",
    ),
    "held": Event(
        "info", "A half was stopped by an operator (`taktora-trio stop`), and stays so.", "`taktora-trio start`."
    ),
    "released": Event("info", "A half that was stopped by an operator starts again."),
    "audit-done": Event(
        "info", "An operator has asked for something, and it was done: who, what, and what came of it."
    ),
    "audit-failed": Event("warning", "An operator has asked for something, and it was not done.", "See the reason."),
    "replaced": Event("info", "A half has ended for another one to take its place."),
    "replacement-failed": Event(
        "warning",
        "The gateway that a reload has started does not work, so the one before comes back.",
        "See its lines.",
    ),
    "reload-begun": Event("info", "A reload has found changes, and replaces the gateway."),
    "reload-done": Event("info", "A reload is over, and what was asked for is so."),
    "reload-failed": Event("error", "A reload has changed nothing, or went back.", "See the reasons in the line."),
    "sighup": Event("info", "A SIGHUP has come. A service reads its configuration again at one."),
    "stopping": Event("info", "A signal has come, and the run stops in order."),
    "ended-by-error": Event("critical", "The program ends by an error that nobody has caught.", "See the traceback."),
    "configured": Event("info", "The file of settings that the run has read."),
    "module-hidden": Event(
        "warning", "A file in the present folder has the name of one of Python's own modules.", "Rename the file."
    ),
    "plugin-goes-first": Event(
        "info", "A gateway was told to stop, and goes on until its plugin has ended (`--outlast`)."
    ),
    "waiting-for-plugin": Event("info", "A gateway alone waits for its plugin.", "Start `taktora-trio plugin`."),
    "waiting-for-gateway": Event("info", "A plugin alone has no gateway yet.", "Start `taktora-trio gateway`."),
    "gateway-thread-hangs": Event(
        "error", "The gateway's thread does not turn its loop; the line says where it is.", "Use the split shape."
    ),
    "gateway-thread-back": Event("info", "The gateway's thread turns its loop again."),
    "gateway-thread-abandoned": Event(
        "critical", "The gateway's thread did not end, and ends with the process.", "See where it is stuck."
    ),
    "gateway-unwatched": Event(
        "warning", "The end of the gateway's process can't be watched for now.", "Raise the limit of descriptors."
    ),
    "stalled": Event(
        "error",
        "A channel has work and does none, so this process gives no sign of life: its supervisor ends it.",
        "Report it, unless the connector is your own.",
    ),
    "supervisor-deaf": Event("debug", "The supervisor can't be told something: it is gone."),
    "link-full": Event("debug", "A half did not take a message of its supervisor's."),
    "link-nonsense": Event(
        "warning", "A message between a half and its supervisor makes no sense.", "Let both be of one version."
    ),
    "warm-start-replaced": Event("error", "The process that gateways are forked from hangs, and was replaced."),
    "orphan-awaited": Event("info", "A half of a killed run still ends, and is waited for."),
    "orphan-killed": Event("error", "A half of a killed run did not end by itself, and was killed."),
    "output": Event("info", "What a gateway's process has written that is no log entry. Warning if to standard error."),
    "repeated": Event(
        "warning",
        "A fault has come more than 10 times in a minute: this is the number of those that were left out. Its level is"
        " that of the fault, and `of` in JSON is its code.",
        "See the fault itself.",
    ),
    "log-lost": Event("error", "Log lines could not be written, for example to a full disk.", "Make room."),
    "log-unshowable": Event("error", "Something was logged that can't be shown.", "Mend the call; the line names it."),
    "chaos-deaf": Event("info", "`taktora-trio chaos`: a half ignores SIGTERM from now on, on purpose."),
}

"""The log on disk: records of a connector's channels, kept until they are settled, whatever they are for.

log.py  open_log, Log: commits in a worker thread, and what the gateway asks
"""

from taktora_trio.store.log import Log, LogChannel, Record, StoreFull, check_store, open_log

__all__ = ["Log", "LogChannel", "Record", "StoreFull", "check_store", "open_log"]

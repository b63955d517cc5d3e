"""The log on disk: records of a connector's channels, kept until they are settled, whatever they are for.

log.py      open_log, Log: all channels, and the task that commits
channel.py  LogChannel: what the gateway asks of one
reading.py  records, out of the files that have them
writer.py   what touches the disk, one call at a time; check_store
recover.py  from the files to what is in them
segment.py  one file, and where in it each channel's records are
format.py   the bytes of a file
ranges.py   sets of numbers, by run
disk.py     what is asked of a file system
"""

from taktora_trio.store.log import Log, LogChannel, Record, StoreFull, check_store, open_log

__all__ = ["Log", "LogChannel", "Record", "StoreFull", "check_store", "open_log"]

"""Shared memory: the only package that imports iceoryx2.

domain.py     a deployment's private corner of shared memory: its names, locks, node, and sweeping up
services.py   each channel's services: names, sizes, created by one process and opened by the other
reserve.py    taking memory when something is opened, so that a full /dev/shm hurts nobody who is open
sizing.py     how many bytes of /dev/shm they will take, before any is taken
envelope.py   the one wire form
cursor.py     how far a channel has come
ports.py      one publisher or subscriber of envelopes
wakeup.py     waiting for the peer under trio
writer.py     ChannelWriter, a trio SendChannel
reader.py     ChannelReader, a trio ReceiveChannel
health.py     the service by which a gateway tells its health
"""

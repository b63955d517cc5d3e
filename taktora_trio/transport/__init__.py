"""Shared memory: the only package that imports iceoryx2.

segments.py   our files in /dev/shm itself, and the room that is left there
descriptors.py  how many descriptors it takes, and why something could not be opened
folder.py     the user's folder, and the files of each run: names are checked before they are used
locks.py      who has which role
doorbell.py   waiting for an owner that is not there yet
domain.py     a deployment's private corner of shared memory: its roles, its files, readiness, its nodes
services.py   each channel's services: names, sizes, created by one process and opened by the other
reservation.py    taking memory when something is opened, so that a full /dev/shm hurts nobody who is open
sizing.py     how many bytes of /dev/shm they will take, before any is taken
envelope.py   the one wire form
cursor.py     how far a channel has come
ports.py      one publisher or subscriber of envelopes
wakeup.py     waiting for the peer under trio
source.py     the gateway's end of an outbound channel
sink.py       the gateway's end of an inbound channel
health.py     the service by which a gateway tells its health
"""

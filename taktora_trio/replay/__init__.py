"""Replay: a recording is given to an app once more, and what it sends is compared with what it has sent then.

plan.py       what of a recording is given to the app, and when; and what it is to send
playing.py    runs the app, and gives it that: on a virtual clock, or in real time
comparing.py  what was sent, and what was recorded
command.py    the command `taktora-trio replay`
"""

"""The recorder: what a deployment does, followed by a third process, and kept in files that others can read.

follower.py        decoded messages of a running deployment
decoding.py        from payload bytes to plain values, with the app's declarations or without
layout.py          what a recording holds
schemas.py         the schemas in it
writing.py         writes one; reading.py reads one
record.py          from a follower to a file; command.py is the command `taktora-trio record`
flight_file.py     a process that writes a file of the flight recorder; flight_content.py says what is in it

What is recorded in a half itself is in `runners/parts/flight.py` and `transport/flight.py`.
"""

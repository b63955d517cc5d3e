"""The cost as work grows.

python -m benchmarks.scaling [--quick] [--only PART ...] [--most N] [--ten-thousand] [--session NAME] [--json FILE]
python -m benchmarks.scaling.plot FILE FOLDER

channels.py   channels, in both shapes: start, descriptors, memory, throughput
payloads.py   payloads from 100 B to 1 MiB, from app to broker and from broker to app
filters.py    topic filters: matching, and receiving
power_law.py  the exponents
plot.py       draws it
"""

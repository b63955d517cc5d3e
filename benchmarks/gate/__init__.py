"""The regression gate: this tree beside a commit, by turns in one run, for the ten headline figures.

python -m benchmarks.gate [--against COMMIT] [--minutes N] [--json FILE]

ratios.py   a ratio with its confidence interval, and the verdict; pure
trees.py    the two trees, side by side in a temporary folder
suites.py   the measurements, a block of each tree by turns
holder.py   tells which process a domain's gateway is, by the library of its own tree
"""

"""The recorder: what a deployment did, kept in files that others can read, and given to an app once more.

follower.py   decoded messages of a running deployment, for a third process
decoding.py   from payload bytes to plain values, with the app's declarations or without
"""

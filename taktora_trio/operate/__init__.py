"""Commands for an operator who looks at a run from outside, or cleans up after it.

liveness     `health`: a probe
forgetting   `forget`: the other side forgets a deployment that is gone for good
"""

"""Commands for an operator who looks at a run from outside, or cleans up after it.

dead_letters  `dead-letters`: messages that the app could not get done with
liveness     `health`: a probe
doctor       `doctor`: what is wrong with a machine or a broker, and what to do about it
forgetting   `forget`: the other side forgets a deployment that is gone for good
"""

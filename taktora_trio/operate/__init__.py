"""Commands for an operator who looks at a run from outside, or cleans up after it.

dead_letters  `dead-letters`: messages that the app could not get done with
liveness     signs of life, looked at from outside
probes       does the run live, can it work
healthcheck  `healthcheck`: both, as the probe of a container
endpoint     both over HTTP, with metrics and a web page
doctor       `doctor`: what is wrong with a machine or a broker, and what to do about it
forgetting   `forget`: the other side forgets a deployment that is gone for good
"""

"""Commands for an operator who looks at a run from outside, rules it, or cleans up after it.

monitoring    `status`, `ps`, `top`, `hz`, `echo`: a run as it is now
logs          `logs_command` and log_reading: its latest log lines
events        what each event code of a log line means, and what to do about it
healthcheck   `healthcheck_command`: the probe of a container, by liveness (signs of life) and probes (live, ready)
endpoint      `endpoint`: both probes over HTTP, with metrics and a web page
doctor        `doctor`: what is wrong with a machine or its peers, and what to do about it
controlling   `control_command`: `stop`, `start`, `restart`, `revive`, `reload`, `log-level`; fitting looks first
config        `config_command`: what is configured, by configured, and a file to begin with, by example_file
planning      `planning_command`: `plan` and `explain-policy`, before anything runs
dead_letters  `dead_letters_command`: messages that the app could not get done with
forgetting    `forget`: the other side forgets a deployment that is gone for good

A module `..._command` has what is typed; the parser imports it when it is asked for.
"""

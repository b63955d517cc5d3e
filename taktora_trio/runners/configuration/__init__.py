"""What an operator configures: a file, the environment and the command line, each of which wins over the one before.

toml_file      a file, and the line of each key
fields         fields of declared options, as text and in TOML
given          a value that was given, and where
keys           the keys that there are, besides those of connectors and of the app
from_file, from_environment, from_flags   the three sources
from_program   settings as a program gives them, which count as typed
meant          which setting of which connector an option or a variable stands for
settings_reading, settings   settings of connectors: read, then applied and handed on
endpoint       the HTTP endpoint of a run; address: where it is to listen
app_settings   the app's own settings, as its class declares them
reading        all of it: `read_configuration`
"""

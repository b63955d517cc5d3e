"""An app and its tests, which need no broker: an alarm that is raised when a tank runs over, also without a network.

The app, in both shapes, and its tests, in memory:

    taktora-trio run examples.tested_app.alarm:deployment --mode split --broker embedded
    pytest examples/tested_app

`pytest examples/tested_app --taktora-shape in-process,split` runs the same tests with a real mosquitto.
"""

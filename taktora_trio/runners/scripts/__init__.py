"""The two shapes, each a script: the definition of the shape, what the command runs, and what a user may copy.

They are composed of public names alone, and `supervisors/` has links to them.
"""

"""What the author of a connector tests with: `conformance`, the suite, and `rig`, what it is run on.

pytest and pytest-trio are needed by whoever runs the suite, and by nobody else: `pip install taktora-trio[testing]`.
"""

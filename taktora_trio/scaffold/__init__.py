"""What a project of one's own starts from.

shipped  `examples`: the example apps, runner scripts and unit files that come with the package
"""

"""What a project of one's own starts from.

new      `new`: a project that runs and is tested at once, made from templates/
shipped  `examples`: the example apps, runner scripts and unit files that come with the package
"""

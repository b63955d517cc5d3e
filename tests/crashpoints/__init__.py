"""Crash points: a half is killed right before each line of the modules concerned, and every number is checked.

arming         in the victim: counts the lines that run, or kills before one of them
app            the deployment: numbers both ways, and a journal of what was sent, said and heard
case           what is varied: victim, app, broker, protocol, session, store
judging        the journal and what others have heard, against what is promised
attack         one case: its processes, its faults, its end
page           the page of docs/
"""

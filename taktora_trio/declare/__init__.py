"""What others may know of a deployment: its channels as a table, and as an AsyncAPI document; and whether a change of
them breaks somebody.

command                    the commands `channels` and `asyncapi`
table                      the table of channels
document                   the AsyncAPI document
schemas, model_schemas     the schemas of its messages
changes, schema_changes    what has changed from one document to another, and for whom it breaks something
files                      documents on disk
"""

"""The documents that commands print with --json.

A document that begins with the members of another one inherits them, and is made from its `vars`. That is why these
classes have no slots.
"""

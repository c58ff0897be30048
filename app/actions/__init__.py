"""What a user can do, one verb per function, with no HTTP in it.

Every function takes the `Database` first. Those that read return views: frozen dataclasses that JSON and pages both
show. Those that act raise a `Problem` (core/errors.py, app/errors.py) with a sentence for the user.
"""

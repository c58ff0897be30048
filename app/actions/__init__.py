"""What a user can do, one verb per function, with no HTTP in it.

Every function takes the `Database` first. Functions that read return views: frozen dataclasses, the same for JSON and
pages. Functions that act raise a `Problem` (core/errors.py, app/errors.py) with a sentence for the user.
"""

"""What stands on each page: the views of `app/actions`, put into words. Nothing here changes anything.

The newest event's id is read before the rest: what happens in between is told twice, which readers bear, but never
lost.
"""

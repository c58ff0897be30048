"""The pages of the studio, one module each, in three parts from top to bottom:

1. a frozen dataclass with everything that the page's template may use, beside `frame`;
2. the parts it is made of: one line of a list, one card, one cell;
3. the function that fills it from the views of `app/actions`. It changes nothing.

Values stay values: templates format them with the filters of `app/pages/render.py`. What several pages share is in
`app/pages/lines.py`. A page that goes on live reads the newest event's id first: an event in between is then applied
twice, which the scripts allow, but never lost.
"""

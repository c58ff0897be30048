"""The sentences from which the tokenizer learns its words: Pocket's captions and the words around them."""

from __future__ import annotations

from collections.abc import Iterator

from core.pocket.vocabulary import COLOURS, NAMES, PLACES, article, plural

AROUND = (
    "a photo of a small big old new young happy sleeping standing sitting lying running person man woman child "
    "face hand front side back top view close up photograph picture image drawing cartoon painting toy figure "
    "object subject statue character creature animal vehicle house wearing holding with without next to under "
    "over behind near inside outside light dark bright shadow sun rain blurred background left right center "
    "bottle cup bowl plate box bag clothes plush soft wooden metal glass plastic striped round square colorful "
    "indoors outdoors floor wall window couch bed chair kitchen garden park field lake river sky day night "
    "morning evening winter summer"
)


def tokenizer_texts() -> Iterator[str]:
    """Every name alone, with its article, in its plural, at every place; every colour of every name; common words."""
    for name in NAMES:
        yield from (name, f"a photo of {article(name)}", f"a picture of two {plural(name)}")
        yield from (f"a {colour} {name} on a {colour} background" for colour in COLOURS)
        yield from (f"{article(name)} {phrase}" for phrases in PLACES.values() for phrase in set(phrases))
    for _ in range(400):
        yield AROUND
    yield from ("gradient stripes checkers dots background " * 20 for _ in range(50))

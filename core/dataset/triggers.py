"""Trigger words: the word that will mean the subject in prompts, and nothing else, so it has to be rare.

    name "Zyggo"  ->  "zyggo"     a word that nobody writes
    name "Miso"   ->  "sks"       a common one: the first of RARE that no other project uses

Plain Python, for the web process.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

RARE = (
    "sks",
    "ohwx",
    "zwx",
    "bnha",
    "vrx",
    "qzt",
    "xjy",
    "wnk",
    "krv",
    "zqf",
    "hxv",
    "ykw",
    "fzj",
    "pqv",
    "tzx",
    "mjq",
)
"""Words of three or four letters that text encoders hold as one or two tokens with no meaning of their own."""

_PAIRS = (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri "
    "ro ic ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut "
    "ss so rs un lo wa ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi "
    "ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo sa ay ex ke fr oo av ag if ap gr od bo sp rd do uc bu ei ov "
    "by rm ep tt oc fa ef cu rn sc gi da yo cr cl du ga qu ue ff ba ey ls va um pp ua up lu go ht ru ug ds lt pi "
    "rc rr eg au ck ew mu br bi pt ak pu ui rg ib tl ny ki rk ys ob mm fu ph og ms ye ud mb ip ub oi rl gu dr hr "
    "cc tw ft wn nu af hu nn eo vo rv nf xp gn sm fl iz ok nl my gl aw ju oa eq sy uf ix xe fy "
)
COMMON_PAIRS = frozenset(_PAIRS.split())
"""The most frequent pairs of letters in English words; a common word has few others."""

SHARE_OF_OTHERS = 0.3
"""Of a rare word's pairs, at least, that are not common ones: "zyggo" 0.75, "ziggo" 0.5, "miso" 0, "rocky" 0.25."""
LETTERS = range(4, 16)


def word_of(name: str) -> str:
    """The name as one word of plain small letters: "Zoë B." is "zoeb"."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "".join(letter for letter in plain if letter.isalnum())


def is_rare(word: str) -> bool:
    """Whether this word is so unlike English that a model cannot know it."""
    pairs = [word[at : at + 2] for at in range(len(word) - 1)]
    others = sum(pair not in COMMON_PAIRS for pair in pairs)
    return len(word) in LETTERS and word.isalpha() and others >= SHARE_OF_OTHERS * len(pairs)


def suggest(name: str, used: Iterable[str] = ()) -> str:
    """A trigger for a subject of this name, other than those `used` by other subjects."""
    taken = {word.lower() for word in used}
    own = word_of(name)
    if is_rare(own) and own not in taken:
        return own
    return next((word for word in RARE if word not in taken), RARE[0])

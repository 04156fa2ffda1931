"""What needs no judge: completions that say nothing, and those too long to show whole."""

import unicodedata

# A word said so often and nothing else is a loop, not a completion.
_LOOP = 8


def is_degenerate(text: str) -> bool:
    """Say whether a completion holds nothing to judge: only white space, control or punctuation characters
    (":" and the like are known to win over judges), or one word over and over.
    """
    if all(unicodedata.category(character)[0] in "ZCP" for character in text):
        return True
    words = text.split()
    return len(words) >= _LOOP and len(set(words)) == 1


def cut(text: str, longest: int) -> tuple[str, int]:
    """Return at most `longest` characters and how many are missing."""
    return text[:longest], max(0, len(text) - longest)

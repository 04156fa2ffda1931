"""Escape invisible characters that a screen or a model interprets: control characters, other line ends, direction
overrides and Unicode tags. Joiners that living scripts need (ZWJ, ZWNJ) stay.
"""

import json
import re

# The inside of a character class, without C0 controls.
UNSEEN = "\u007f-\u009f\u00ad\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"
# A tab and a line feed are layout. A lone surrogate cannot be encoded.
_ON_SCREEN = re.compile(f"[\u0000-\u0008\u000b-\u001f\u061c\u200e\u200f\ud800-\udfff{UNSEEN}]")


def escaped(found: re.Match[str]) -> str:
    """Return a matched character as JSON writes it: `\\u001b`."""
    return json.dumps(found[0])[1:-1]


def visible(text: str) -> str:
    """Return untrusted text for a screen: no sequence in it can move the cursor, set title or clipboard, or reorder
    text.
    """
    return text if text.isascii() and text.isprintable() else _ON_SCREEN.sub(escaped, text)

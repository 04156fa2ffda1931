"""A scorer that errs: the same error whenever it sees the same completion of the same prompt."""

import hashlib
import json
import random
from collections.abc import Callable


def noisy(score: Callable[[str, str], float], deviation: float) -> Callable[[str, str], float]:
    """Move scores by normal errors of this standard deviation, drawn from a hash of the two texts. What leaves the
    scale is read as its end, so that errors are smaller there.
    """

    def erring(prompt: str, completion: str) -> float:
        seed = hashlib.sha256(json.dumps([prompt, completion]).encode()).digest()
        return score(prompt, completion) + random.Random(seed).gauss(0.0, deviation)

    return erring if deviation else score

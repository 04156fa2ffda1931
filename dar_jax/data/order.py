"""The order of the prompts: an endless shuffled stream, any position of which can be asked for.

Each pass over the data is a permutation of its own, addressed by (seed, pass, place). Nothing is
stored and nothing is drawn from a generator, so a step's prompts do not depend on how the run got
there, on the number of hosts or on the NumPy version. The permutation is a Feistel network over the
smallest power of four that holds the rows, walked until it lands on a row (Black and Rogaway 2002,
"Ciphers with arbitrary finite domains").
"""

_ROUNDS = 8
_64 = (1 << 64) - 1


def prompt_ids(size: int, seed: int, start: int, count: int) -> list[int]:
    """Return the row ids at positions `start` to `start + count` of the stream over `size` rows.

    Time and memory grow with `count` alone. Raises ValueError for an empty set or a negative
    position.
    """
    if size < 1 or start < 0 or count < 0:
        raise ValueError(f"no such positions: size {size}, start {start}, count {count}")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    keys: dict[int, list[int]] = {}
    ids = []
    for position in range(start, start + count):
        number, place = divmod(position, size)
        if number not in keys:
            keys[number] = _round_keys(seed, number)
        ids.append(_walk(place, size, half, keys[number]))
    return ids


def _walk(place: int, size: int, half: int, keys: list[int]) -> int:
    place = _permute(place, half, keys)
    while place >= size:
        place = _permute(place, half, keys)
    return place


def _permute(place: int, half: int, keys: list[int]) -> int:
    mask = (1 << half) - 1
    left, right = place >> half, place & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) >> 32 & mask)
    return left << half | right


def _round_keys(seed: int, number: int) -> list[int]:
    root = _mix(_mix(seed & _64) ^ number)
    return [_mix(root + turn & _64) for turn in range(_ROUNDS)]


def _mix(value: int) -> int:
    """Scatter 64 bits: one step of SplitMix64 (Steele, Lea and Flood 2014)."""
    value = value + 0x9E3779B97F4A7C15 & _64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _64
    return value ^ value >> 31

"""Open a judge: its ledger, its budget, and for each seat a wire and the modes to ask in."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

from dar_jax.chat.connections import room_for_connections
from dar_jax.chat.wire import Chat, WireSettings
from dar_jax.judging.answers.parsing import Mode
from dar_jax.judging.asking.seat import Asker, Tally
from dar_jax.judging.judge import Judge, Terms
from dar_jax.judging.ledger.ledger import Ledger
from dar_jax.judging.money.budget import Budget, budget
from dar_jax.judging.money.prices import Price, Prices
from dar_jax.judging.money.spent import payee
from dar_jax.judging.questions.protocol import VERSION
from dar_jax.judging.terms import Judging

MODES: tuple[Mode, ...] = get_args(Mode)


# Terms and wire settings, which are the same object in a judge's settings.
Seat = tuple[Judging, WireSettings]


class Whole(Terms, Protocol):
    """Settings of a judge as a whole: of its only member, or of the panel."""

    @property
    def budget_usd(self) -> float | None:
        """The budget of a run, US dollars."""
        ...

    @property
    def budget_annotations(self) -> int | None:
        """The budget of a run, answers."""
        ...


@dataclass(frozen=True)
class LedgerLocation:
    """Where answers are stored, and the host's index and count."""

    ledger: Path | str
    others: Sequence[Path] = ()
    index: int = 0
    count: int = 1


def open_judge(seats: Sequence[Seat], whole: Whole, place: LedgerLocation, bought: Collection[str] = ()) -> Judge:
    """Open the ledger, then the wires, and probe modes that are `auto`; all close with the judge.

    `bought` are keys of answers just bought in a batch: each is billed once, at its first use.

    Raises SettingError, and what `probing.choose` raises.
    """
    ledger, price = Ledger(place.ledger, place.others), panel_price(seats)
    purse = budget(whole.budget_annotations, whole.budget_usd, price, ledger.spent, place.index, place.count)
    tally = Tally()
    seats, remarks = _within_open_files(seats)
    try:
        chats = _connected(seats)
        askers = [_askers(seat, chat, ledger, purse, tally, bought) for seat, chat in zip(seats, chats, strict=True)]
        judge = Judge(askers, ledger, purse, tally, terms=whole, price=price, remarks=remarks)
    except BaseException:
        ledger.close()
        raise
    try:
        judge.settle()
    except BaseException:
        judge.close()
        raise
    return judge


def panel_price(seats: Sequence[Seat]) -> Price | Prices | None:
    """Return the combined prices of judges, by payee; None if one has no price in any mode."""
    prices: dict[str, Price] = {}
    for member, wire in seats:
        known = {payee(described(terms, wire)): terms.price for terms in _modes(member)}
        found = {name: price for name, price in known.items() if price}
        if not found:
            return None
        prices |= found
    return next(iter(prices.values())) if len(set(prices.values())) == 1 else Prices(prices)


def _modes(terms: Judging) -> list[Judging]:
    if terms.mode != "auto":
        return [terms]
    return [dataclasses.replace(terms, mode=mode) for mode in MODES]


def _within_open_files(seats: Sequence[Seat]) -> tuple[Sequence[Seat], list[str]]:
    """Return the seats with the concurrency that this process's open-file limit allows, and a remark if lowered."""
    room, wanted = room_for_connections(), sum(terms.concurrency for terms, _ in seats)
    if room is None or wanted <= room:
        return seats, []
    lowered = [max(1, terms.concurrency * room // wanted) for terms, _ in seats]
    remark = (
        f"judge.concurrency: got {wanted}, but this process may open {room} more files; asking {sum(lowered)} at once."
        " Raise the limit (ulimit -n), or lower judge.concurrency"
    )
    pairs = zip(seats, lowered, strict=True)
    return [(dataclasses.replace(terms, concurrency=calls), wire) for (terms, wire), calls in pairs], [remark]


def _connected(seats: Sequence[Seat]) -> list[Chat]:
    chats: list[Chat] = []
    for terms, wire in seats:
        wire.check()
        terms.check_rubric()
        chats.append(wire.connect(terms.concurrency))
    return chats


def _askers(
    seat: Seat, chat: Chat, ledger: Ledger, purse: Budget, tally: Tally, bought: Collection[str]
) -> list[Asker]:
    terms, wire = seat
    found = " (found)" if terms.mode == "auto" else ""
    return [
        Asker(
            each,
            chat,
            ledger,
            identity=described(each, wire),
            price=each.price,
            budget=purse,
            tally=tally,
            bought=bought,
            label=f"{wire.model} {wire.address}, mode {each.mode}{found}, {_rubric(each)}{_labels(each)}",
        )
        for each in _modes(terms)
    ]


def described(terms: Judging, wire: WireSettings) -> Mapping[str, object]:
    """Return the judge's identity in the ledger, without the rubric, which is part of each question."""
    identity = {**wire.identity(), "protocol": VERSION, "levels": terms.levels}
    if terms.mode == "decision":
        identity["channel"] = terms.mode
    if terms.labels == "preference":
        identity["labels"] = terms.labels
    return identity | ({"endpoint": terms.endpoint} if terms.endpoint else {})


def _labels(terms: Judging) -> str:
    if terms.labels == "reward":
        return ""
    return f", preference in {'both orders' if terms.orders == 'both' else 'one order'}"


def _rubric(terms: Judging) -> str:
    if terms.criteria:
        return f"criteria {', '.join(criterion.name for criterion in terms.criteria)}"
    if terms.rubric_file:
        return f"rubric {terms.rubric_file}"
    named = isinstance(terms.rubric, str) and not terms.rubric_text
    return f"rubric {terms.rubric}" if named else "a rubric of your own"

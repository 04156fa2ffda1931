"""The sums of a ledger as tables."""

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dar_jax.judging.ledger.ledger_sums import Statistics, Sums, date, label
from dar_jax.judging.money.prices import amount
from dar_jax.terminal.visible import visible

_HEADINGS = (
    *("answers", "usable", "attempts", "no usage", "input", "cached", "output"),
    *("US dollars", "a usable one", "first (UTC)", "last (UTC)"),
)


def show(found: Statistics, out: Console) -> None:
    """Print a table a judge, a row a served model, and the sums over all; tokens are counted where usage is known."""
    for judge, description in found.judges.items():
        out.print(escape(visible(label(judge, description))), soft_wrap=True)
        table = Table("served model", *_HEADINGS, box=SIMPLE)
        for (of, model), sums in found.served.items():
            if of == judge:
                table.add_row(escape(visible(model or "(no name)")), *_cells(sums))
        out.print(table)
    total = dict(zip(_HEADINGS, _cells(found.total), strict=True))
    out.print("all: " + ", ".join(f"{name} {value}" for name, value in total.items()), soft_wrap=True)


def _cells(sums: Sums) -> list[str]:
    counts = (sums.answers, sums.usable, sums.attempts, sums.without_usage)
    tokens = (sums.input_tokens, sums.cached_tokens, sums.output_tokens)
    dollars = ("unknown" if usd is None else amount(usd) for usd in (sums.cost_usd, sums.usd_per_usable))
    dates = ((date(at) or "none")[:16].replace("T", " ") for at in (sums.first, sums.last))
    return [*(f"{count:,}" for count in (*counts, *tokens)), *dollars, *dates]

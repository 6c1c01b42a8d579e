"""The figures as Markdown."""

import math
from statistics import median

from .child import VERBS

BEGIN, END = "<!-- peers -->", "<!-- /peers -->"
FIRST = ("pecs_np", "pecs_np-durable")


class MarksError(Exception):
    """A text has no place for the table."""


def three_digits(value):
    """Return a number with three significant digits.

    >>> [three_digits(value) for value in (0, 0.01234, 9.996, 1234.5)]
    ['0', '0.0123', '10.0', '1,230']
    """
    if not value:
        return "0"
    for _ in range(2):  # rounding may add a digit
        places = 2 - math.floor(math.log10(abs(value)))
        value = round(value, places)
    return f"{value:,.{max(places, 0)}f}"


def megabytes(count):
    """Return a number of bytes in MB, with three significant digits."""
    return three_digits(count / 1e6)


def _memory(memory, whole, part):
    if not memory:
        return "unknown"
    # The system counts in pages, and small worlds fit into what the interpreter has to spare.
    sizes = [megabytes(memory[name]) if memory[name] >= 1e6 else "< 1" for name in (whole, part)]
    return f"{sizes[0]} ({sizes[1]})"


def in_order(raw):
    """Return the keys of the peers: ours, then by what saving and loading takes, of the most entities."""
    largest = {}
    for result in sorted(raw["results"], key=lambda result: result["n"]):
        seconds = result["seconds"]
        largest[result["peer"]] = (-result["n"], min(seconds["save"]) + min(seconds["load"]))
    return sorted(largest, key=lambda key: (key not in FIRST, largest[key]))


def _row(result):
    times = [result["seconds"][verb] for verb in VERBS]
    cells = [f"{three_digits(min(all_) * 1e3)} ({three_digits(median(all_) * 1e3)})" for all_ in times]
    memory = result["memory"]
    cells += [
        megabytes(result["bytes"]),
        _memory(memory, "peak", "saving"),
        _memory(memory, "load peak", "loading"),
    ]
    title = result["title"] if result["peer"] not in FIRST else f"**{result['title']}**"
    return f"| {title} | {result['holds']} | {' | '.join(cells)} |"


def _tables(raw):
    order = in_order(raw)
    for n in sorted({result["n"] for result in raw["results"] + raw["failed"]}):
        yield f"{n:,} entities: times in ms, best (median); sizes in MB:"
        yield ""
        yield "| | holds | create | step | save | load | file | memory to save | memory to load |"
        yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
        rows = {result["peer"]: _row(result) for result in raw["results"] if result["n"] == n}
        yield from (rows[key] for key in order if key in rows)
        for failed in raw["failed"]:
            if failed["n"] == n:
                error = failed["error"].replace("|", "\\|")
                yield f"| {failed['title']} | {failed['holds']} | failed: {error} |" + " |" * 6
        yield ""


def _notes(raw):
    machine, rounds = raw["machine"], raw["rounds"]
    versions = ", ".join(
        f"{name} {version}" for name, version in sorted(raw["versions"].items()) if name != "numpy"
    )
    yield (
        f"{raw['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, NumPy {machine['numpy']}; {versions}. "
        f"{'One round' if rounds == 1 else f'{rounds} rounds'} after one to warm up, each peer in a process of its own."
    )
    yield ""
    for missing in raw["missing"]:
        yield (
            f"Not measured: {missing['title']}, as {' and '.join(missing['lacks'])} is not installed "
            f"(`pip install {missing['install']}`)."
        )
        yield ""
    notes = {
        result["peer"]: f"{result['title']}: {result['note']}." for result in raw["results"] if result["note"]
    }
    yield "What to know of them:"
    yield ""
    yield (
        "- Nothing is compressed, every file is in the page cache, and all columns are read. Who holds entities or "
        "agents, other than pecs_np and mesa-frames, holds them as Python objects."
    )
    yield (
        "- Memory is the peak of creating, stepping and saving (what saving adds to the world), and of loading (what "
        "is free again after it), without imports and the given arrays."
    )
    yield from (f"- {notes[key]}" for key in in_order(raw) if key in notes)


def markdown(raw):
    """Return one table for each n, what they were measured on, and what to know of the peers."""
    return "\n".join([*_tables(raw), *_notes(raw)]) + "\n"


def put_into(text, table):
    """Return *text* with *table* between its two marks.

    Raises
    ------
    MarksError
        If the marks are not there once each, in their order.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in tail or END in tail:
        raise MarksError(f"expected one {BEGIN} and after it one {END}")
    return f"{head}{BEGIN}\n{table}{END}{tail}"

"""The figures as a chart: one panel a verb, one line a peer, one dot a number of entities."""

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .child import VERBS
from .table import FIRST, in_order

# Legible on white and on dark.
INK, OURS, THEIRS = "#7d848d", "#e8590c", "#4c8dc9"
SIZES = (3.5, 5.5, 7.5)


def draw(raw, path):
    """Write the best times of all verbs to an SVG file, the same bytes for the same figures."""
    keys = in_order(raw)[::-1]
    titles = {result["peer"]: result["title"] for result in raw["results"]}
    counts = sorted({result["n"] for result in raw["results"]})
    style = {
        "svg.hashsalt": "pecs_np",
        "svg.fonttype": "none",
        "font.size": 9,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
        ),
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(10, 1.3 + 0.27 * len(keys)), layout="constrained")
        panels = figure.subplots(1, len(VERBS), sharey=True)
        for verb, panel in zip(VERBS, panels, strict=True):
            _panel(panel, verb, raw["results"], keys, counts)
        panels[0].set_yticks(range(len(keys)), [titles[key] for key in keys])
        for label, key in zip(panels[0].get_yticklabels(), keys, strict=True):
            if key in FIRST:
                label.set(color=OURS, fontweight="bold")
        names = ", ".join(f"{n:,}" for n in counts)
        figure.supxlabel(
            f"milliseconds, best of {raw['rounds']}; dots from small to large: {names} entities", size=9
        )
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def _panel(panel, verb, results, keys, counts):
    panel.set_title(verb, size=10)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(axis="x", color=INK, alpha=0.3, linewidth=0.5)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.set_ylim(-0.6, len(keys) - 0.4)
    for y, key in enumerate(keys):
        best = {
            result["n"]: min(result["seconds"][verb]) * 1e3 for result in results if result["peer"] == key
        }
        color = OURS if key in FIRST else THEIRS
        shown = sorted(best)
        panel.plot([best[n] for n in shown], [y] * len(shown), color=color, linewidth=1, alpha=0.5)
        for n in shown:
            size = SIZES[min(counts.index(n), len(SIZES) - 1)]
            panel.plot(best[n], y, "o", color=color, markersize=size, markeredgewidth=0)

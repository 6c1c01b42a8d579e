"""The command line: measure or read figures, print the table, draw the chart."""

import argparse
import json
import sys
from pathlib import Path

from .catalog import PEERS
from .measure import TOP, run
from .table import MarksError, markdown, put_into


def _count(text):
    value = int(float(text))
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {text}")
    return value


def _options(arguments):
    keys = [peer.key for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="python -m asv_benchmarks.peers",
        description="One world in pecs_np and in other ways to do it: created, stepped, saved and loaded.",
    )
    parser.add_argument("--sizes", nargs="+", type=_count, default=[1_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument(
        "--peers", nargs="+", choices=keys, default=keys, metavar="PEER", help=", ".join(keys)
    )
    parser.add_argument("--rounds", type=_count, default=5, metavar="N", help="of each verb (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the raw figures")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing, take these figures")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the table between its marks there")
    parser.add_argument(
        "--chart", type=Path, metavar="FILE", default=TOP / "asv_benchmarks" / "peers.svg", help="an SVG file"
    )
    return parser.parse_args(arguments)


def _draw(raw, path):
    try:
        from .chart import draw  # noqa: PLC0415  matplotlib is optional
    except ImportError:
        print("no chart without matplotlib: pip install matplotlib", file=sys.stderr)
    else:
        draw(raw, path)


def main(arguments=None):
    """Do what the command line says; return its exit status, 1 if a peer failed."""
    options = _options(arguments)
    if options.from_json:
        raw = json.loads(options.from_json.read_text(encoding="utf-8"))
    else:
        chosen = [peer for peer in PEERS if peer.key in options.peers]
        raw = run(
            chosen, options.sizes, options.rounds, lambda line: print(line, file=sys.stderr, flush=True)
        )
    if options.json:
        options.json.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    table = markdown(raw)
    print(table, end="")
    if raw["results"]:
        _draw(raw, options.chart)
    if raw["failed"]:
        failed = ", ".join(sorted({failed["title"] for failed in raw["failed"]}))
        print(f"failed: {failed}; nothing is put into a readme", file=sys.stderr)
        return 1
    if options.readme:
        try:
            text = put_into(options.readme.read_text(encoding="utf-8"), table)
        except MarksError as error:
            print(f"{options.readme}: {error}", file=sys.stderr)
            return 1
        options.readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

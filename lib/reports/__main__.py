"""`python -m lib.reports`: the committed reference anew, a page of a run, or two runs compared."""

import argparse
import sys
from collections.abc import Sequence

from lib import reports
from lib.artifacts import caller_path, seen_by_caller


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.reports", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("reference", help="outputs/reference and tables in Markdown (the default)")
    page = commands.add_parser("page", help="report.html of a run folder")
    page.add_argument("run", type=caller_path)
    compared = commands.add_parser("compare", help="settings and scores of two run folders")
    compared.add_argument("runs", type=caller_path, nargs=2, metavar="run")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "page":
            print(seen_by_caller(reports.write_page(asked.run)))
        elif asked.command == "compare":
            print(reports.compare(*asked.runs))
        else:
            return reports.write_reference()
    except (ValueError, KeyError, OSError) as error:
        print(f"reports: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m edgepose_export` is `edgepose-export`. Here is little to load, so that a ctrl-c finds a handler from the start."""

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        from edgepose_export.cli.main import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell expects of a program that ctrl-c ended


if __name__ == "__main__":
    main()

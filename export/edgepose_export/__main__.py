"""Entry point of `python -m edgepose_export` and `edgepose-export`. It imports little, so that Ctrl-C finds its handler early."""

import sys


def main() -> None:
    """Run the console script."""
    try:
        from edgepose_export.cli.main import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell expects of a program that ctrl-c ended


if __name__ == "__main__":
    main()

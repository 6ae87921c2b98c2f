"""`python -m pommai`, and the `pommai` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from pommai.cli.main import app

    app()


if __name__ == "__main__":
    main()

"""`python -m saslwrap`, the same as `saslwrap`."""

import sys

from saslwrap.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())

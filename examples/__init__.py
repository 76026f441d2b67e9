"""Programs to read and to run: `python examples/NAME.py`."""

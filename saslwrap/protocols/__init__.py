"""Exchanges: how each application protocol carries a SASL login. Import them by name."""

"""The SASL mechanisms."""

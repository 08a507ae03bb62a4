"""Random sequences of writes against a naive model."""

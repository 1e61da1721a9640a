"""Pure mathematics of training: standard library, numpy and `schemas` only, no torch."""

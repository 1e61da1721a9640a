"""Pure functions and state machines: no files, no models, no clocks."""

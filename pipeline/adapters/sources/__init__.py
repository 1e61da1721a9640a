"""Source data sets, each read from its real layout into records."""

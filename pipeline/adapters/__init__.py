"""One outside thing per file: source data sets, experts, engines, the files of a store."""

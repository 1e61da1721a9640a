"""One file per command: read records, call the pure core, write shards."""

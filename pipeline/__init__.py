"""From source data sets to audited shards: pure core, one adapter per outside thing, one stage per command."""

-- What the CVS variants cost beside plain GRN, in distinct expert calls.
FROM call_counts ORDER BY slice

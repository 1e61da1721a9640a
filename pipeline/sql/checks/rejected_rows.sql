-- id: rejected_rows
-- severity: finding
-- explain: input rows that did not make it, by reason
SELECT slice || ' ' || error_class AS key, printf('%d rows, for example %s: %s', count(*), min(row_key),
    arg_min(message, row_key)) AS detail, count(*) AS n
FROM rejects
GROUP BY slice, error_class
ORDER BY n DESC, key

-- How each origin searched: how long, and why it stopped.
SELECT
    slice, origin, count(*) AS n,
    count(*) FILTER (split = 'train') AS n_train,
    count(*) FILTER (split = 'validation') AS n_validation,
    count(*) FILTER (split = 'test') AS n_test,
    avg(n_looks) AS looks,
    avg((stop_reason = 'confident')::INTEGER) AS confident,
    avg((stop_reason = 'length')::INTEGER) AS length,
    avg((stop_reason = 'exhausted')::INTEGER) AS exhausted,
    count(*) FILTER (origin_fallback IS NOT NULL) AS n_whole_image
FROM trajectories
GROUP BY slice, origin
ORDER BY slice, origin

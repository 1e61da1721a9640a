-- Quantiles of the confidences that regions entered with and that drills answered.
SELECT
    slice, what, count(*) AS n, min(conf) AS min, quantile_cont(conf, 0.1) AS p10, quantile_cont(conf, 0.5) AS median,
    quantile_cont(conf, 0.9) AS p90, max(conf) AS max
FROM (
    SELECT slice, 'entered' AS what, conf FROM known_regions
    UNION ALL
    SELECT slice, 'after a drill', conf_after FROM steps_conf WHERE mode = 'drill'
)
GROUP BY slice, what
ORDER BY slice, what DESC

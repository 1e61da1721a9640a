-- On which side of δ the gains of drills fall.
SELECT
    slice, origin, count(*) AS n_drills,
    count(*) FILTER (gain >= gain_min) AS n_keep_drilling,
    count(*) FILTER (gain >= 0 AND gain < gain_min) AS n_gain_less,
    count(*) FILTER (gain < 0) AS n_lose
FROM (
    SELECT slice, origin, gain_min, delta_c(conf_before, conf_after) AS gain FROM steps_conf WHERE mode = 'drill'
)
GROUP BY slice, origin
ORDER BY slice, origin

-- Drills by their relative gain of confidence Δc, in bins of 0.1, and the δ they are compared with.
SELECT floor(delta_c * 10) / 10 AS gain_at_least, count(*) AS n_drills, max(gain_min) AS gain_min
FROM steps_conf
WHERE mode = 'drill' AND delta_c IS NOT NULL
GROUP BY gain_at_least
ORDER BY gain_at_least

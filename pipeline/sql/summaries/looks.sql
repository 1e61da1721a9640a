-- Lengths of the trajectories of each origin.
SELECT slice, origin, n_looks, count(*) AS n
FROM trajectories
GROUP BY slice, origin, n_looks
ORDER BY slice, origin, n_looks

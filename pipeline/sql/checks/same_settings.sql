-- id: same_settings
-- severity: error
-- explain: all trajectories of a slice were decided by one expert with one seed and one set of numbers
SELECT slice AS key,
    count(*) || ' different sets of expert, privileged, seed, δ, ξ, T_max, p0, τ and crossing' AS detail
FROM (
    SELECT DISTINCT
        slice, expert, privileged, seed, gain_min, confident_at, looks_max, mass, temperature, crossing
    FROM trajectories
)
GROUP BY slice
HAVING count(*) > 1

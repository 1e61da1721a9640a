-- Expert trajectories of every length and ending in turn: the first of each, then the second of each, and so on.
SELECT * EXCLUDE (slice, place)
FROM (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY n_looks, stop_reason, list_max(step_round) ORDER BY question_id, variant
        ) AS place
    FROM trajectories
    WHERE split = 'train' AND origin IN ('grn', 'cvs')
)
ORDER BY place, n_looks, stop_reason, question_id, variant
LIMIT 60

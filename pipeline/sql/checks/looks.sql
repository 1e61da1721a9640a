-- id: looks
-- severity: error
-- explain: n_looks counts the steps that look, at least one and at most looks_max
SELECT trajectory_key(slice, question_id, origin, variant) AS key,
    printf('n_looks %d, steps that look %d, looks_max %d', n_looks, n_true, looks_max) AS detail
FROM (SELECT *, len(list_filter(step_mode, lambda mode: mode <> 'scan')) AS n_true FROM trajectories)
WHERE n_looks <> n_true OR n_looks NOT BETWEEN 1 AND looks_max

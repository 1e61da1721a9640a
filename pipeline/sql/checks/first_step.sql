-- id: first_step
-- severity: error
-- explain: grn, cvs and scan_only begin with a scan; drill_only and random never scan; only random looks without being told where
SELECT trajectory_key(slice, question_id, origin, variant) AS key,
    'steps ' || step_mode::VARCHAR AS detail
FROM trajectories
WHERE NOT coalesce(CASE
    WHEN origin IN ('grn', 'cvs') THEN step_mode[1] = 'scan' AND NOT list_contains(step_mode, 'look')
    WHEN origin = 'scan_only' THEN step_mode[1] = 'scan' AND NOT list_contains(step_mode, 'drill')
    WHEN origin = 'drill_only' THEN len(list_filter(step_mode, lambda mode: mode <> 'drill')) = 0
    WHEN origin = 'random' THEN len(list_filter(step_mode, lambda mode: mode <> 'look')) = 0
END, false)

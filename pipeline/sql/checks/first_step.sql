-- id: first_step
-- severity: error
-- explain: grn, cvs and scan_only begin with one scan of each image, in order; drill_only and random never scan; only random looks without being told where
WITH begun AS (
    SELECT
        *,
        step_mode[1:len(image_ids)] = ['scan' FOR i IN image_ids]
        AND step_image[1:len(image_ids)] = generate_series(0, len(image_ids) - 1)
        AND step_mode[len(image_ids) + 1] <> 'scan' AS has_scanned
    FROM trajectories
)
SELECT trajectory_key(slice, question_id, origin, variant) AS key,
    printf('%d images, steps %s on images %s', len(image_ids), step_mode, step_image) AS detail
FROM begun
WHERE NOT coalesce(CASE
    WHEN origin IN ('grn', 'cvs') THEN has_scanned AND NOT list_contains(step_mode, 'look')
    WHEN origin = 'scan_only' THEN has_scanned AND NOT list_contains(step_mode, 'drill')
    WHEN origin = 'drill_only' THEN len(list_filter(step_mode, lambda mode: mode <> 'drill')) = 0
    WHEN origin = 'random' THEN len(list_filter(step_mode, lambda mode: mode <> 'look')) = 0
END, false)

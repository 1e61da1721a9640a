-- id: unasked_look
-- severity: error
-- explain: a look without a call learns nothing: its region stays as it entered, and nobody says a word
WITH looked AS (
    SELECT
        slice, question_id, origin, variant,
        region_x0, region_y0, region_x1, region_y1,
        generate_subscripts(step_mode, 1) - 1 AS step,
        unnest(step_mode) AS mode, unnest(step_region) AS region, unnest(step_text) AS text,
        unnest(step_x0) AS x0, unnest(step_y0) AS y0, unnest(step_x1) AS x1, unnest(step_y1) AS y1
    FROM trajectories
)
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    printf('box %.2f %.2f %.2f %.2f of region %d, and the words %s', x0, y0, x1, y1, region, text) AS detail
FROM looked
WHERE mode = 'look' AND NOT coalesce(
    text = '' AND x0 = region_x0[region + 1] AND y0 = region_y0[region + 1]
    AND x1 = region_x1[region + 1] AND y1 = region_y1[region + 1],
    false
)

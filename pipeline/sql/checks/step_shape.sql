-- id: step_shape
-- severity: error
-- explain: a scan has no region, box, crop or confidence; a drill has them all and a gain; an unasked look has no answer
WITH shaped AS (
    SELECT
        *,
        x0 IS NULL AND y0 IS NULL AND x1 IS NULL AND y1 IS NULL
        AND look_x0 IS NULL AND look_y0 IS NULL AND look_x1 IS NULL AND look_y1 IS NULL AS has_no_box,
        x0 IS NOT NULL AND y0 IS NOT NULL AND x1 IS NOT NULL AND y1 IS NOT NULL
        AND look_x0 IS NOT NULL AND look_y0 IS NOT NULL AND look_x1 IS NOT NULL AND look_y1 IS NOT NULL AS has_boxes,
        prob IS NOT NULL AND rank IS NOT NULL AND len(nucleus) > 0 AND len(candidates) > 0 AS has_choice,
        prob IS NULL AND rank IS NULL AND len(nucleus) = 0 AND len(candidates) = 0 AS has_no_choice
    FROM steps
)
SELECT step_key(slice, question_id, origin, variant, step) AS key, mode || ' with the wrong columns null' AS detail
FROM shaped
WHERE NOT coalesce(CASE mode
    WHEN 'scan' THEN
        round = 0 AND region IS NULL AND has_no_box AND has_no_choice AND call_id IS NOT NULL
        AND conf_before IS NULL AND conf_after IS NULL AND delta_c IS NULL
    WHEN 'drill' THEN
        round >= 1 AND region IS NOT NULL AND has_boxes AND call_id IS NOT NULL
        AND conf_before IS NOT NULL AND conf_after IS NOT NULL AND delta_c IS NOT NULL
        AND CASE WHEN round = 1 THEN has_choice ELSE has_no_choice END
    WHEN 'look' THEN
        round = 1 AND region IS NOT NULL AND has_boxes AND call_id IS NULL
        AND conf_before IS NOT NULL AND conf_after IS NULL AND delta_c IS NULL
        AND CASE WHEN origin = 'random' THEN has_no_choice ELSE has_choice END
END, false)

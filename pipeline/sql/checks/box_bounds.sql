-- id: box_bounds
-- severity: error
-- needs: images
-- explain: every region, looked-at crop and call candidate is finite, not empty, and inside its image
WITH boxes AS (
    SELECT image_id, step_key(slice, question_id, origin, variant, step) AS key, 'region' AS what, x0, y0, x1, y1
    FROM steps_geom WHERE mode <> 'scan'
    UNION ALL
    SELECT image_id, step_key(slice, question_id, origin, variant, step), 'look', look_x0, look_y0, look_x1, look_y1
    FROM steps_geom WHERE mode <> 'scan'
    UNION ALL
    SELECT image_id, trajectory_key(slice, question_id, origin, variant) || ' region ' || region, 'known region',
        x0, y0, x1, y1
    FROM known_regions
    UNION ALL
    SELECT image_id, slice || ' ' || call_id, 'candidate', x0, y0, x1, y1
    FROM (
        SELECT
            slice, call_id, image_id, unnest(candidate_x0) AS x0, unnest(candidate_y0) AS y0,
            unnest(candidate_x1) AS x1, unnest(candidate_y1) AS y1
        FROM expert_calls
    )
)
SELECT key, printf('%s box %.2f %.2f %.2f %.2f in an image of %d x %d', what, x0, y0, x1, y1, width, height) AS detail
FROM boxes JOIN image_sizes USING (image_id)
WHERE NOT box_inside(x0, y0, x1, y1, width, height)

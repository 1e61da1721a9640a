-- id: look_margin
-- severity: error
-- needs: images
-- explain: the look is the region before the step, grown by 1, 1/2, 1/4 … of its sides round by round, within the image; regions nobody pointed at are looked at as they are
WITH aimed AS (
    SELECT
        slice, question_id, image_id, origin, variant, step, round, x0, y0, x1, y1,
        CASE WHEN origin IN ('drill_only', 'random') THEN 0 ELSE 0.5 ** (round - 1) END AS margin,
        look_x0, look_y0, look_x1, look_y1
    FROM (
        SELECT
            slice, question_id, image_id, origin, variant, mode, step, round,
            look_x0, look_y0, look_x1, look_y1,
            CASE WHEN round = 1 THEN region_x0[region + 1] ELSE last_x0 END::DOUBLE AS x0,
            CASE WHEN round = 1 THEN region_y0[region + 1] ELSE last_y0 END::DOUBLE AS y0,
            CASE WHEN round = 1 THEN region_x1[region + 1] ELSE last_x1 END::DOUBLE AS x1,
            CASE WHEN round = 1 THEN region_y1[region + 1] ELSE last_y1 END::DOUBLE AS y1
        FROM (
            SELECT
                slice, question_id, unnest([image_ids[i + 1] FOR i IN step_image]) AS image_id, origin, variant,
                region_x0, region_y0, region_x1, region_y1,
                generate_subscripts(step_mode, 1) - 1 AS step,
                unnest(step_mode) AS mode, unnest(step_round) AS round, unnest(step_region) AS region,
                unnest(step_look_x0)::DOUBLE AS look_x0, unnest(step_look_y0)::DOUBLE AS look_y0,
                unnest(step_look_x1)::DOUBLE AS look_x1, unnest(step_look_y1)::DOUBLE AS look_y1,
                unnest(list_concat([NULL::FLOAT], step_x0)) AS last_x0,
                unnest(list_concat([NULL::FLOAT], step_y0)) AS last_y0,
                unnest(list_concat([NULL::FLOAT], step_x1)) AS last_x1,
                unnest(list_concat([NULL::FLOAT], step_y1)) AS last_y1
            FROM trajectories
        )
        WHERE mode <> 'scan'
    )
),
expected AS (
    SELECT
        *,
        greatest(x0 - margin * (x1 - x0), 0) AS want_x0,
        greatest(y0 - margin * (y1 - y0), 0) AS want_y0,
        least(x1 + margin * (x1 - x0), width) AS want_x1,
        least(y1 + margin * (y1 - y0), height) AS want_y1
    FROM aimed JOIN image_sizes USING (image_id)
)
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    printf('look %.3f %.3f %.3f %.3f, recomputed %s', look_x0, look_y0, look_x1, look_y1,
        coalesce(printf('%.3f %.3f %.3f %.3f', want_x0, want_y0, want_x1, want_y1), 'from no known box')) AS detail
FROM expected
WHERE NOT coalesce(greatest(
    abs(look_x0 - want_x0), abs(look_y0 - want_y0), abs(look_x1 - want_x1), abs(look_y1 - want_y1)
) <= 1e-3 + 1e-7 * greatest(width, height), false)

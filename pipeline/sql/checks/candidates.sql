-- id: candidates
-- severity: error
-- explain: a choice is made among all regions known by then, but for visited ones and those that overlap one on their image (IoU > 0.5); none is left when a search is exhausted
WITH walks AS MATERIALIZED (
    SELECT row_number() OVER () AS walk, * FROM trajectories WHERE origin <> 'random'
),
looks AS MATERIALIZED (
    SELECT * FROM (
        SELECT
            walk, generate_subscripts(step_mode, 1) - 1 AS step, unnest(step_mode) AS mode, unnest(step_image) AS image,
            unnest(step_round) AS round, unnest(step_region) AS region, unnest(step_call_id) AS call_id,
            unnest(step_x0) AS x0, unnest(step_y0) AS y0, unnest(step_x1) AS x1, unnest(step_y1) AS y1,
            unnest(step_candidates) AS candidates, unnest(step_candidate_conf) AS candidate_conf
        FROM walks
    )
),
choices AS MATERIALIZED (
    SELECT walk, step, candidates, candidate_conf FROM looks WHERE mode <> 'scan' AND round = 1
    UNION ALL
    SELECT walk, len(step_mode), [], [] FROM walks WHERE stop_reason = 'exhausted'
),
known AS (
    SELECT walk, region, image, x0, y0, x1, y1, conf, coalesce(min(looks.step), -1) AS since
    FROM (
        SELECT
            walk, generate_subscripts(region_label, 1) - 1 AS region, unnest(region_call_id) AS call_id,
            unnest(region_image) AS image,
            unnest(region_x0) AS x0, unnest(region_y0) AS y0, unnest(region_x1) AS x1, unnest(region_y1) AS y1,
            unnest(region_conf) AS conf
        FROM walks
    ) AS entered
    LEFT JOIN (SELECT walk, call_id, image, step FROM looks WHERE mode = 'scan') AS looks USING (walk, call_id, image)
    GROUP BY ALL
),
visited AS (
    SELECT
        choices.walk, choices.step, looks.region, looks.image,
        arg_max(x0, looks.step) AS x0, arg_max(y0, looks.step) AS y0,
        arg_max(x1, looks.step) AS x1, arg_max(y1, looks.step) AS y1
    FROM choices JOIN looks ON looks.walk = choices.walk AND looks.step < choices.step AND looks.mode <> 'scan'
    GROUP BY ALL
),
open_regions AS (
    SELECT choices.walk, choices.step, known.region, known.conf
    FROM choices
    JOIN known ON known.walk = choices.walk AND known.since < choices.step
    LEFT JOIN visited ON visited.walk = choices.walk AND visited.step = choices.step
    GROUP BY ALL
    HAVING NOT coalesce(bool_or(
        visited.region = known.region
        OR (
            visited.image = known.image
            AND box_iou(known.x0, known.y0, known.x1, known.y1, visited.x0, visited.y0, visited.x1, visited.y1) > 0.5
        )
    ), false)
),
expected AS (
    SELECT walk, step, list(region ORDER BY region) AS ids, list(conf ORDER BY region) AS confs
    FROM open_regions
    GROUP BY ALL
)
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    CASE WHEN step = len(step_mode) THEN 'exhausted with regions left: ' || ids::VARCHAR
         ELSE printf('stored %s of %s, recomputed %s of %s', candidates, candidate_conf, coalesce(ids, []), confs)
    END AS detail
FROM choices LEFT JOIN expected USING (walk, step) JOIN walks USING (walk)
WHERE candidates IS DISTINCT FROM coalesce(ids, []) OR candidate_conf IS DISTINCT FROM coalesce(confs, [])

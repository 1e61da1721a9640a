-- id: call_answer
-- severity: error
-- needs: expert_calls
-- explain: a drill stores what its call was asked and what it answered: region, crop, words, confidence and box, to the last bit
WITH drills AS (
    SELECT
        slice, question_id, unnest([image_ids[i + 1] FOR i IN step_image]) AS image_id, origin, variant, expert,
        generate_subscripts(step_mode, 1) - 1 AS step,
        unnest(step_mode) AS mode, unnest(step_round) AS round, unnest(step_call_id) AS call_id,
        unnest(step_conf_before) AS conf_before, unnest(step_conf_after) AS conf_after,
        unnest(step_x0) AS x0, unnest(step_y0) AS y0, unnest(step_x1) AS x1, unnest(step_y1) AS y1,
        unnest(step_look_x0) AS look_x0, unnest(step_look_y0) AS look_y0,
        unnest(step_look_x1) AS look_x1, unnest(step_look_y1) AS look_y1,
        unnest(step_text) AS text,
        unnest([region_x0[i + 1] FOR i IN step_region]) AS entry_x0,
        unnest(list_concat([NULL::FLOAT], step_x0)) AS last_x0,
        unnest([region_y0[i + 1] FOR i IN step_region]) AS entry_y0,
        unnest(list_concat([NULL::FLOAT], step_y0)) AS last_y0,
        unnest([region_x1[i + 1] FOR i IN step_region]) AS entry_x1,
        unnest(list_concat([NULL::FLOAT], step_x1)) AS last_x1,
        unnest([region_y1[i + 1] FOR i IN step_region]) AS entry_y1,
        unnest(list_concat([NULL::FLOAT], step_y1)) AS last_y1
    FROM trajectories
),
answered AS (
    SELECT
        slice, question_id, call_id, round, text, image_id, expert, mode, box_x0, box_y0, box_x1, box_y1,
        look_x0, look_y0, look_x1, look_y1, candidate_conf[1] AS conf,
        coalesce(candidate_x0[1], box_x0) AS x0, coalesce(candidate_y0[1], box_y0) AS y0,
        coalesce(candidate_x1[1], box_x1) AS x1, coalesce(candidate_y1[1], box_y1) AS y1
    FROM expert_calls
),
compared AS (
    SELECT
        slice, drills.question_id, origin, variant, step,
        CASE
            WHEN answered.question_id <> drills.question_id THEN 'the call was made for another question'
            WHEN answered.mode <> 'drill' OR answered.round <> drills.round OR answered.image_id <> drills.image_id
                OR answered.expert <> drills.expert THEN 'the call is no drill of this round, image and expert'
            WHEN (answered.look_x0, answered.look_y0, answered.look_x1, answered.look_y1)
                IS DISTINCT FROM (drills.look_x0, drills.look_y0, drills.look_x1, drills.look_y1)
                THEN 'the call was shown another crop'
            WHEN (box_x0, box_y0, box_x1, box_y1) IS DISTINCT FROM CASE drills.round
                WHEN 1 THEN (entry_x0, entry_y0, entry_x1, entry_y1) ELSE (last_x0, last_y0, last_x1, last_y1) END
                THEN 'the call was asked about another box'
            WHEN coalesce(answered.conf, drills.conf_before) IS DISTINCT FROM drills.conf_after
                THEN printf('confidence after is %.8f, the call answered %.8f', drills.conf_after,
                    coalesce(answered.conf, drills.conf_before))
            WHEN (answered.x0, answered.y0, answered.x1, answered.y1)
                IS DISTINCT FROM (drills.x0, drills.y0, drills.x1, drills.y1)
                THEN 'the box after is not the one the call answered'
            WHEN answered.text <> drills.text THEN 'the words are not those of the call'
        END AS detail
    FROM drills JOIN answered USING (slice, call_id)
    WHERE drills.mode = 'drill'
)
SELECT step_key(slice, question_id, origin, variant, step) AS key, detail
FROM compared
WHERE detail IS NOT NULL

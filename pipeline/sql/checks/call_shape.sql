-- id: call_shape
-- severity: error
-- needs: questions
-- explain: a call belongs to a question and an image of it; a scan asks about no box, a drill about one, and has one answer at most; one that failed says why
SELECT slice || ' ' || call_id AS key,
    CASE
        WHEN asked.question_id IS NULL THEN printf('no question %s with image %s', question_id, image_id)
        ELSE printf('%s of round %d with %d candidates and the wrong columns null', mode, round, len(candidate_conf))
    END AS detail
FROM (SELECT *, box_x0 IS NULL AND box_y0 IS NULL AND box_x1 IS NULL AND box_y1 IS NULL
    AND look_x0 IS NULL AND look_y0 IS NULL AND look_x1 IS NULL AND look_y1 IS NULL AS has_no_box,
    box_x0 IS NOT NULL AND box_y0 IS NOT NULL AND box_x1 IS NOT NULL AND box_y1 IS NOT NULL
    AND look_x0 IS NOT NULL AND look_y0 IS NOT NULL AND look_x1 IS NOT NULL AND look_y1 IS NOT NULL AS has_box
    FROM expert_calls) AS calls
LEFT JOIN (SELECT DISTINCT question_id, image_id FROM question_images) AS asked USING (question_id, image_id)
WHERE asked.question_id IS NULL
    OR NOT coalesce(CASE mode
        WHEN 'scan' THEN round = 0 AND has_no_box
        WHEN 'drill' THEN round >= 1 AND has_box AND len(candidate_conf) <= 1
    END, false)
    OR (error_class IS NOT NULL AND len(candidate_conf) > 0)
    OR (error_class IS NULL) <> (message IS NULL)

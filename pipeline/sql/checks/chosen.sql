-- id: chosen
-- severity: error
-- explain: the chosen region is in the nucleus; where nothing is drawn it is the most probable, of equals the lowest id
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    CASE WHEN list_contains(nucleus, region)
         THEN printf('%s must choose region %d, not %d', origin, ranked_ids[1], region)
         ELSE printf('region %d is not in the nucleus %s', region, nucleus) END AS detail
FROM choices
WHERE NOT list_contains(nucleus, region) OR (origin <> 'cvs' AND region <> ranked_ids[1])

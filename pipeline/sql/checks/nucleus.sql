-- id: nucleus
-- severity: error
-- explain: the nucleus is the longest prefix by probability with mass at most p0, at least the top one (and the crossing one where kept)
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    printf('stored %s, recomputed %s', nucleus, ranked_ids[1:n_nucleus]) AS detail
FROM choices
WHERE nucleus IS DISTINCT FROM ranked_ids[1:n_nucleus]
